"""An hour of a thousand endpoints through the whole of control, scaled by what is learned of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation import fleet, virtual
from simulation.world import world
from stoker.simulate.trace import Requests, Trace, read_trace

TRACE = Path(__file__).parents[2] / "examples" / "traces" / "sparse_fleet.csv.gz"
HOUR_S = 3_600.0


@pytest.mark.timeout(900)
def test_a_thousand_endpoints_lose_no_request_within_an_hour_and_have_workers_for_those_who_come() -> None:
    arrivals = fleet.copies(read_trace(TRACE), endpoints=1_000, until=HOUR_S)

    async def main() -> fleet.Outcome:
        async with world() as w:
            return await fleet.run(w, arrivals, endpoints=1_000, told=lambda count: None)

    found = virtual.run(main(), real_s_max=800)
    assert found.requests > 10_000
    assert found.lost == 0
    assert found.starts < found.requests / 10
    # Each endpoint's first request finds no worker.
    assert found.in_time > 0.8


@pytest.mark.parametrize("endpoints", [1, 2, 5])
def test_a_fleet_is_a_trace_again_and_again_each_time_from_elsewhere_in_it(endpoints: int) -> None:
    requests = [Requests(name, (5.0, 50_000.0, 100_000.0), (1, 2, 3), (1, 1, 1)) for name in ("a", "b")]
    day = 2 * fleet.DAY_S
    found = list(fleet.copies(Trace("t", tuple(requests)), endpoints=endpoints, until=day))
    assert found == sorted(found)
    for number in range(endpoints):
        mine = [at for at, of, _ in found if of == number]
        by = number // 2 * day / -(-endpoints // 2)
        assert mine == pytest.approx(sorted((at - by) % day for at in (5.0, 50_000.0, 100_000.0)))

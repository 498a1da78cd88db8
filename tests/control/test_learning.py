"""What is learned stays known, and those who wait are told."""

from __future__ import annotations

import asyncio

import pytest

from simulation import virtual
from simulation.world import spec, world
from stoker.control.learning import digest_of
from stoker.domain.endpoint import Launch
from stoker.domain.learned import Kind
from stoker.domain.worker import WorkerState


def test_starts_are_learned_told_to_the_gateway_and_known_after_a_restart() -> None:
    async def main() -> None:
        async with world() as w:
            made = await w.create(spec(low=1))
            assert w.stoker.books.learning.expected_start_s(made) is None, "nothing is known yet"
            w.load_s = 30.0
            await asyncio.sleep(60)
            [cold] = w.stoker.books.learning.of_endpoint(made)
            assert cold.kind is Kind.START_COLD
            assert cold.samples.quantile(0.5) == pytest.approx(30.0, abs=1.0)
            w.load_s = 4.0
            [worker] = w.workers(made.id, WorkerState.READY)
            w.provider.crash(worker.id)
            await asyncio.sleep(60)
            known = {item.kind: item.samples for item in w.stoker.books.learning.of_endpoint(made)}
            assert known[Kind.START_WARM].quantile(0.5) == pytest.approx(4.0, abs=1.0)
            assert w.stoker.books.learning.expected_start_s(made) in (4.0, 5.0)
            entry = w.gateway.entry(made.id)
            assert entry is not None
            assert entry.expected_start_s in (4.0, 5.0)
            await w.crash()
            await w.boot()
            await asyncio.sleep(20)
            again = {item.kind: item.samples for item in w.stoker.books.learning.of_endpoint(made)}
            assert again == known, "nothing is learned twice"

    virtual.run(main())


def test_what_makes_another_launch_is_what_runs() -> None:
    launch = Launch(engine=None, command=("a",))
    assert digest_of(launch) == digest_of(Launch(engine="x", command=("a",), slots=9))
    others = (Launch(engine=None, command=("b",)), Launch(engine=None, command=("a",), env={"X": "1"}))
    assert len({digest_of(launch), *map(digest_of, others)}) == 3

"""An hour of a small fleet through the whole of control, scaled by what is learned of each endpoint."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator

from simulation import fleet, virtual
from simulation.world import world

ENDPOINTS = 10
HOUR_S = 3_600.0


def sparse(number: int) -> Iterator[fleet.Arrival]:
    """Sessions of some requests with pauses between, half an hour apart or less."""
    chance = random.Random(number)
    at = chance.uniform(0, 1_800)
    while at < HOUR_S:
        for _ in range(chance.randint(1, 8)):
            yield at, number, chance.uniform(1.0, 10.0)
            at += chance.expovariate(1 / 15)
        at += chance.uniform(60, 1_800)


def test_an_hour_of_a_fleet_loses_no_request_and_starts_workers_for_those_who_come() -> None:
    arrivals = heapq.merge(*(sparse(number) for number in range(ENDPOINTS)))

    async def main() -> fleet.Outcome:
        async with world() as w:
            return await fleet.run(w, arrivals, endpoints=ENDPOINTS, told=lambda count: None)

    found = virtual.run(main())
    assert found.requests > 80
    assert found.lost == 0
    assert ENDPOINTS <= found.starts < found.requests
    # Of so few a first one that finds no worker is a good part.
    assert found.in_time > 0.3

"""Many endpoints through the whole of control on virtual time, each with its requests, scaled by what is learned."""

from __future__ import annotations

import asyncio
import heapq
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from simulation.world import World, spec
from stoker.domain.endpoint import ScalingPolicy
from stoker.simulate.trace import PROFILES, Trace

# (when, in seconds from the beginning; number of the endpoint; seconds of service), in the order of time.
Arrival = tuple[float, int, float]
START_S = 45.0
SLOTS = 4
WORKERS_MAX = 8
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Requests in all, those that were not answered, the share that waited at most five seconds, starts of workers."""

    requests: int
    lost: int
    in_time: float
    starts: int


def copies(trace: Trace, *, endpoints: int, until: float) -> Iterator[Arrival]:
    """The requests of so many endpoints up to `until`, in the order of time: those of the trace again and again, each
    copy begun elsewhere in it and going round, in whole days.
    """
    known = [list(zip(each.arrivals, PROFILES["A"].services(each), strict=True)) for each in trace.endpoints]
    last = max(each[-1][0] for each in known)
    length = math.ceil((last + 1.0) / DAY_S) * DAY_S
    # All over the trace, so that no two copies of one endpoint fall together.
    step = length / math.ceil(endpoints / len(known))
    parts = [
        _moved(known[n % len(known)], n, (n // len(known)) * step, length=length, until=until) for n in range(endpoints)
    ]
    return heapq.merge(*parts)


def _moved(
    requests: Sequence[tuple[float, float]], number: int, by: float, *, length: float, until: float
) -> Iterator[Arrival]:
    first = bisect_left(requests, (by, 0.0))
    for round_s, some in ((0.0, requests[first:]), (length, requests[:first])):
        for at, service_s in some:
            if at - by + round_s >= until:
                return
            yield at - by + round_s, number, service_s


async def run(w: World, arrivals: Iterable[Arrival], *, endpoints: int, told: Callable[[int], None]) -> Outcome:
    """All of it. `told` hears how many requests have come."""
    w.load_s = START_S
    loop = asyncio.get_running_loop()
    made = [
        await w.create(spec(f"e{number}", slots=SLOTS, high=WORKERS_MAX, scaling=ScalingPolicy()))
        for number in range(endpoints)
    ]
    began, count, lost, in_time = loop.time(), 0, 0, 0
    gateway = w.gateway
    for at, number, service_s in arrivals:
        await asyncio.sleep(max(0.0, began + at - loop.time()))
        gateway.request(made[number].id, service_s)
        count += 1
        if count % 1_000 == 0:
            told(count)
            # Those that have ended are counted and forgotten.
            ended = [request for request in gateway.requests if request.outcome is not None]
            gateway.requests = [request for request in gateway.requests if request.outcome is None]
            lost += sum(request.outcome != "done" for request in ended)
            in_time += sum(_in_time(request.arrived_at, request.started_at) for request in ended)
    for request in gateway.requests:
        await request.ended.wait()
    lost += sum(request.outcome != "done" for request in gateway.requests)
    in_time += sum(_in_time(request.arrived_at, request.started_at) for request in gateway.requests)
    return Outcome(requests=count, lost=lost, in_time=in_time / max(1, count), starts=len(w.provider.starts))


def _in_time(arrived_at: float, started_at: float | None) -> bool:
    return started_at is not None and started_at - arrived_at <= 5.0

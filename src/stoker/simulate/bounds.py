"""What no policy can be below: the work, and what serving everybody without waiting costs at least. Pure.

A level is one worker's worth of demand: level k is needed while at least k workers are needed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from stoker.simulate.trace import Profile

Step = tuple[float, int]


def work_bound(services: Sequence[float], profile: Profile) -> float:
    """GPU-seconds of all work on full workers, and one start."""
    return sum(services) / profile.slots + profile.start_cost if services else 0.0


def zero_wait_bound(arrivals: Sequence[float], services: Sequence[float], profile: Profile) -> float:
    """The least GPU-seconds with which nobody waits: a gap between two needs of a level costs itself or a start."""
    return _least(needs(zip(arrivals, services, strict=True), profile.slots), profile.start_cost)


def wait_bound(arrivals: Sequence[float], services: Sequence[float], profile: Profile) -> float:
    """The same if everybody may wait as long as the target: of a request only what cannot be before or after counts."""
    target = profile.wait_target_s
    parts = [(a + target, s - target) for a, s in zip(arrivals, services, strict=True) if s > target]
    return max(work_bound(services, profile), _least(needs(parts, profile.slots), profile.start_cost))


def needs(requests: Iterable[tuple[float, float]], slots: int) -> list[Step]:
    """How many workers are needed from when on, if each request (arrival, service) is served at once."""
    steps: list[Step] = []
    for at, present in presence(requests):
        count = -(-present // slots)
        if steps and steps[-1][0] == at:
            steps.pop()
        if count != (steps[-1][1] if steps else 0):
            steps.append((at, count))
    return steps


def presence(requests: Iterable[tuple[float, float]]) -> Iterator[Step]:
    """Requests in the system at each change of their number, with servers without end."""
    ends: list[float] = []
    for at, service in requests:
        while ends and ends[0] <= at:
            end = heapq.heappop(ends)
            yield end, len(ends)
        heapq.heappush(ends, at + service)
        yield at, len(ends)
    while ends:
        end = heapq.heappop(ends)
        yield end, len(ends)


def levels(steps: Sequence[Step]) -> list[list[tuple[float, float]]]:
    """For each level the times (from, to) in which it is needed."""
    found: list[list[tuple[float, float]]] = []
    since: list[float] = []
    for at, count in steps:
        while len(since) > count:
            level = len(since) - 1
            found[level].append((since.pop(), at))
        while len(since) < count:
            since.append(at)
            if len(found) < len(since):
                found.append([])
    return found


def _least(steps: Sequence[Step], start_s: float) -> float:
    total = 0.0
    for level in levels(steps):
        total += start_s
        for index, (since, until) in enumerate(level):
            total += until - since
            if index:
                total += min(since - level[index - 1][1], start_s)
    return total

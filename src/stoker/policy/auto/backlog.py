"""Workers beyond the need, to work off what waits by the time that they are ready: as many as are worth it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

_TRIALS_EVERY_S: Final = 5.0
_STEP: Final = 0.2
# Starts that are nearly over cost next to nothing more, but not nothing.
_START_LEFT_S_MIN: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits and what comes: requests, requests a second, seconds of service, and of workers the slots of each, how
    many are `ready` and `needed`, a start's `start_s` and what of it the first of those loading still takes.
    """

    requests: int
    present: int
    rate: float
    service_s: float
    slots: int
    ready: int
    needed: int
    start_s: float
    start_left_s: float


class Persistence:
    """How much of the arrivals at the sight of a backlog still come a start time later: 1 all of them, learned."""

    __slots__ = ("_trials", "share")

    def __init__(self, share: float = 1.0) -> None:
        self.share = share
        self._trials: deque[tuple[float, float]] = deque()

    def due_s(self, now: float, *, start_s: float) -> float:
        """In how many seconds there is something to see."""
        return self._trials[0][0] + start_s - now if self._trials else math.inf

    def look(self, now: float, rate: float, *, start_s: float) -> None:
        """See what has become of the backlogs of one start time ago."""
        while self._trials and now - self._trials[0][0] >= start_s:
            before = self._trials.popleft()[1]
            self.share += (min(1.0, rate / before) - self.share) * _STEP

    def begin(self, now: float, rate: float) -> None:
        """There is a backlog, at this rate of arrivals."""
        if rate > 0 and (not self._trials or now - self._trials[-1][0] > _TRIALS_EVERY_S):
            self._trials.append((now, rate))


def worth_starting(it: Waiting, *, wait_target_s: float, late_cost_s: float, persistence: float) -> int:
    """How many workers more than needed are worth their start.

    k of them work a backlog of B requests off in B·s/(c·k); meanwhile λ requests a second are late. They cost k starts
    of H seconds. k·H + V·λ·B·s/(c·k) is least at k = √(V·λ·B·s / (c·H)).
    """
    backlog = _backlog(it, persistence)
    if backlog * it.service_s <= wait_target_s * it.slots * max(1, it.needed):
        return 0
    count = _least(it, backlog, late_cost_s * persistence, it.start_s)
    # Nobody can use more than a slot for each, for what of it is left by the target.
    return int(min(count, backlog * min(1.0, it.service_s / wait_target_s) / it.slots))


def worth_finishing(it: Waiting, *, late_cost_s: float, persistence: float) -> int:
    """How many workers more than needed are worth what is left of their start; never fewer than those present need."""
    backlog = max(_backlog(it, persistence), float(it.requests))
    count = _least(it, backlog, late_cost_s * persistence, max(_START_LEFT_S_MIN, it.start_left_s))
    return max(int(count), math.ceil(it.present / it.slots) - it.needed)


def _backlog(it: Waiting, persistence: float) -> float:
    """Requests that will wait when the next worker is ready, arrivals going down to their persistent share by then."""
    served = it.ready * it.slots / it.service_s
    return max(0.0, it.requests + (it.rate * (1 + persistence) / 2 - served) * it.start_left_s)


def _least(it: Waiting, backlog: float, late_cost_s: float, start_s: float) -> float:
    return math.sqrt(late_cost_s * it.rate * backlog * it.service_s / (it.slots * start_s))

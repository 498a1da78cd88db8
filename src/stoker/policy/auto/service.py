"""What requests ask of workers: their service time, and by it the demand, after Little's law with slack."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

# What is older than so many requests counts less and less.
_REQUESTS: Final = 200.0
# Before so many have ended, the wait target stands for the service time, unless requests already take longer.
_ENDED_MIN: Final = 3
_SERVICE_S_MIN: Final = 0.02
# A mean that has grown by this share is another one.
_STEADY: Final = 0.1
_ARRIVALS_EVERY_S: Final = 0.25
_WINDOW_S_MAX: Final = 3_600.0
_FALLS_S_MAX: Final = 5.0


class ServiceTime:
    """The mean service time: busy time of all slots over completions.

    Requests under way count with the time they have had, or else short ones, which end first, would stand for all: the
    maximum likelihood for exponential times of which some are not over.
    """

    __slots__ = ("_busy_s", "_ended", "_in_flight", "_now", "_seen")

    def __init__(self, now: float, known: tuple[float, float] = (0.0, 0.0)) -> None:
        self._busy_s, self._ended = known
        self._in_flight = 0
        self._now = now
        self._seen: int | None = None

    def known(self) -> tuple[float, float]:
        """Busy time and completions, as far as they count."""
        return round(self._busy_s, 3), round(self._ended, 3)

    def note(self, now: float, *, in_flight: int, ended: int) -> None:
        """Requests in flight from now on, and how many have ended since the beginning."""
        self._busy_s += self._in_flight * max(0.0, now - self._now)
        self._now, self._in_flight = now, in_flight
        # What ended before the first look is not of the time that is counted.
        self._ended += max(0, ended - self._seen) if self._seen is not None else 0
        self._seen = ended
        if self._ended > _REQUESTS:
            self._busy_s *= _REQUESTS / self._ended
            self._ended = _REQUESTS

    @property
    def steady_s(self) -> float:
        """How long the mean stays about what it is, requests in flight taking longer and longer, if none ends."""
        return _STEADY * self._busy_s / self._in_flight if self._in_flight else math.inf

    @property
    def is_known(self) -> bool:
        """Have enough requests ended to tell?"""
        return self._ended >= _ENDED_MIN

    def seconds(self, otherwise: float) -> float:
        """The mean in seconds; `otherwise` while nothing is known."""
        if not self.is_known and self._busy_s <= otherwise:
            return otherwise
        return max(_SERVICE_S_MIN, self._busy_s / max(1.0, self._ended))


class Arrivals:
    """How many requests came lately."""

    __slots__ = ("_fell_at", "_seen", "_window", "count")

    def __init__(self) -> None:
        self.count = 0
        self._window: deque[tuple[float, int]] = deque()
        self._seen: int | None = None
        self._fell_at: float | None = None

    def note(self, now: float, *, arrived: int, present: int, window_s: float) -> None:
        """How many have arrived since the beginning; those older than the window are forgotten. Of those from before
        the first look only those count that are still `present`.
        """
        more = min(arrived, present) if self._seen is None else arrived - self._seen
        if more >= 0 or self._fell_for(now):
            self._seen, self._fell_at = arrived, None
        window = self._window
        if more > 0:
            if window and now - window[-1][0] < _ARRIVALS_EVERY_S:
                window[-1] = (window[-1][0], window[-1][1] + more)
            else:
                window.append((now, more))
            self.count += more
        since = now - min(window_s, _WINDOW_S_MAX)
        while window and window[0][0] < since:
            self.count -= window.popleft()[1]

    def falls_s(self, now: float, *, window_s: float) -> float:
        """In how many seconds the number will be lower if nobody comes, or a fall of the count is to be believed."""
        falls_at = self._window[0][0] + min(window_s, _WINDOW_S_MAX) if self._window else math.inf
        believed_at = math.inf if self._fell_at is None else self._fell_at + _FALLS_S_MAX
        return max(0.0, min(falls_at, believed_at) - now)

    def _fell_for(self, now: float) -> bool:
        """Is the number lower for long? For a moment it is when a task has begun of which no report tells so far."""
        if self._fell_at is None:
            self._fell_at = now
        return now - self._fell_at > _FALLS_S_MAX


def demand(arrived: int, *, service_s: float, slack_s: float) -> float:
    """Slots that requests need which came within the last `service_s + slack_s` seconds.

    Each needs a slot for `service_s` of them: Little's law, taken over the time in which a request must be served, so
    that those that wait for a worker to start count once and not for as long as they wait.

    >>> demand(30, service_s=5.0, slack_s=5.0)
    15.0
    """
    return arrived * service_s / (service_s + slack_s)


def levels(slots_needed: float, slots: int) -> int:
    """Workers of `slots` that so many slots take."""
    return math.ceil(slots_needed / slots - 1e-9)

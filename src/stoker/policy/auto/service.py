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
_ARRIVALS_EVERY_S: Final = 0.25
_WINDOW_S_MAX: Final = 3_600.0


class ServiceTime:
    """The mean service time: busy time of all slots over completions.

    Requests under way count with the time they have had, or else short ones, which end first, would stand for all: the
    maximum likelihood for exponential times of which some are not over.
    """

    __slots__ = ("_busy_s", "_ended", "_in_flight", "_now", "_seen")

    def __init__(self, now: float) -> None:
        self._busy_s = 0.0
        self._ended = 0.0
        self._in_flight = 0
        self._now = now
        self._seen = 0

    def note(self, now: float, *, in_flight: int, ended: int) -> None:
        """Requests in flight from now on, and how many have ended since the beginning."""
        self._busy_s += self._in_flight * max(0.0, now - self._now)
        self._now, self._in_flight = now, in_flight
        # Fewer than before: it is another gateway that counts.
        more = ended - self._seen if ended >= self._seen else ended
        self._seen = ended
        self._ended += more
        if self._ended > _REQUESTS:
            self._busy_s *= _REQUESTS / self._ended
            self._ended = _REQUESTS

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

    __slots__ = ("_seen", "_window", "count")

    def __init__(self) -> None:
        self.count = 0
        self._window: deque[tuple[float, int]] = deque()
        self._seen = 0

    def note(self, now: float, *, arrived: int, window_s: float) -> None:
        """How many have arrived since the beginning; those older than the window are forgotten."""
        more = arrived - self._seen if arrived >= self._seen else arrived
        self._seen = arrived
        window = self._window
        if more:
            if window and now - window[-1][0] < _ARRIVALS_EVERY_S:
                window[-1] = (window[-1][0], window[-1][1] + more)
            else:
                window.append((now, more))
            self.count += more
        since = now - min(window_s, _WINDOW_S_MAX)
        while window and window[0][0] < since:
            self.count -= window.popleft()[1]


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

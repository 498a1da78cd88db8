"""Means of what is present over windows, as the rules of others take them."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Final

from stoker.simulate.run import View

# What is older than all windows is let go of in one piece, once there is so much of it.
_OLD_MAX: Final = 4_096
# Whoever makes a mean begin anew came no longer before it.
_FRESH_S: Final = 2.0


class Averages:
    """Remembers `window_s`. With `fresh` a whole empty window makes the next mean begin anew."""

    def __init__(self, window_s: float, *, fresh: bool = False) -> None:
        self._window_s, self._fresh = window_s, fresh
        # When it was noted, and the integral of what was present by then.
        self._times: list[float] = []
        self._areas: list[float] = []
        self._began = 0.0
        self._busy_at = -math.inf

    def note(self, view: View) -> None:
        """Take in what was present up to now."""
        now, times, areas = view.now, self._times, self._areas
        if (areas and view.area > areas[-1]) or view.present:
            if self._fresh and now - self._busy_at > self._window_s:
                self._begin(now)
            self._busy_at = now
        times.append(now)
        areas.append(view.area)
        if len(times) >= 2 * _OLD_MAX:
            old = min(_OLD_MAX, max(0, bisect_right(times, now - self._window_s) - 1))
            del times[:old], areas[:old]

    def _begin(self, now: float) -> None:
        """Nobody may have looked for long before this."""
        times, areas = self._times, self._areas
        self._began = now - _FRESH_S if times else now
        if times and times[-1] < self._began:
            times.append(self._began)
            areas.append(areas[-1])

    def mean(self, view: View, window_s: float) -> float:
        """Over the last `window_s`, or since it began."""
        since = max(view.now - window_s, self._began)
        at = max(self._oldest(view.now), bisect_right(self._times, since) - 1)
        span = max(view.now - self._times[at], 1.0) if self._fresh else window_s
        return (view.area - self._areas[at]) / span

    def _oldest(self, now: float) -> int:
        return max(0, bisect_right(self._times, now - self._window_s) - 1)

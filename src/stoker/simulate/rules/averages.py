"""Means of what is present over windows, as the rules of others take them."""

from __future__ import annotations

import math
from collections import deque

from stoker.simulate.run import View


class Averages:
    """Remembers `window_s`. With `fresh` a whole empty window makes the next mean begin anew."""

    def __init__(self, window_s: float, *, fresh: bool = False) -> None:
        self._window_s, self._fresh = window_s, fresh
        self._areas: deque[tuple[float, float]] = deque()
        self._began = 0.0
        self._busy_at = -math.inf

    def note(self, view: View) -> None:
        """Take in what was present up to now."""
        now = view.now
        if (self._areas and view.area > self._areas[-1][1]) or view.present:
            if self._fresh and now - self._busy_at > self._window_s:
                self._began = self._areas[-1][0] if self._areas else now
            self._busy_at = now
        self._areas.append((now, view.area))
        while len(self._areas) > 1 and self._areas[1][0] <= now - self._window_s:
            self._areas.popleft()

    def mean(self, view: View, window_s: float) -> float:
        """Over the last `window_s`, or since it began."""
        since = max(view.now - window_s, self._began)
        before = self._areas[0]
        for entry in reversed(self._areas):
            if entry[0] <= since:
                before = entry
                break
        span = max(view.now - before[0], 1.0) if self._fresh else window_s
        return (view.area - before[1]) / span

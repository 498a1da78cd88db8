"""Levels of need: level k is needed while k workers are. For each, whether its worker is worth being kept."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from stoker.policy.auto.experience import LEVELS_MAX, Experience, Histogram, LevelKnown
from stoker.policy.auto.gaps import Gaps, keep_s
from stoker.policy.auto.returns import Returns, Window

# Needs that were away for less were not.
_GAP_S_MIN: Final = 0.5
# A lognormal start time with the spread that is usual (sigma 0.35) takes this times its median, in the mean.
_MEAN_OF_MEDIAN: Final = 1.06
# Requests that are late without a level, before it was seen: of the first, and of those above.
_LATE_FIRST: Final = 3.0
_LATE_OTHERS: Final = 1.0
_LATE_STEP: Final = 0.1
# A level that was away for so many starts has come back, and did not only pause.
_AWAY_STARTS: Final = 2.0
# By how many medians of a start a worker may be started ahead, and how many starts take longer (sigma 0.35 again).
_LEADS: Final = ((1.0, 0.5), (1.5, 0.123), (2.0, 0.024), (2.5, 0.0044), (3.0, 0.0009))


@dataclass(frozen=True, slots=True)
class Lateness:
    """What it is to miss a worker: how many requests are late, and what that costs beside the `keep_cost` of one that
    is kept a second.
    """

    service_s: float
    slots: int
    start_s: float
    wait_target_s: float
    late_cost_s: float
    keep_cost: float = 1.0

    def requests(self, level: int, arrived: int) -> float:
        """Of those that arrived while one would have started, how many the workers below this level could not serve."""
        if level == 1:
            return float(arrived + 1)
        served = (level - 1) * self.slots * (self.start_s + self.wait_target_s) / self.service_s
        most = max(1.0, self.slots * self.start_s / self.service_s)
        return min(max(0.0, arrived + 1 - served), most)

    def cost_s(self, late: float) -> float:
        """Seconds of a kept worker that its absence costs."""
        return (self.start_s * _MEAN_OF_MEDIAN + self.late_cost_s * late) / self.keep_cost

    def lead_s(self, miss_cost_s: float) -> float:
        """How long before a need to start: a second costs a second, and a start that takes longer is a miss."""
        return min((times * self.start_s + longer * miss_cost_s, times * self.start_s) for times, longer in _LEADS)[1]


class Levels:
    """Level k is needed while k workers are; for each, how long it was away before, and what is late without it."""

    def __init__(self, workers_max: int, *, now: float, known: Experience) -> None:
        self._needed = 0
        self._arrived = 0
        self._below_since = [now] * (workers_max + 2)
        self._gaps: dict[int, Gaps] = {}
        self._all = Gaps(known.gaps)
        self._late: dict[int, float] = {}
        self._keep_s: dict[int, float] = {}
        self._returned: dict[int, Returns] = {}
        self._windows: dict[int, Window] = {}
        # Known from before, of which nothing was made so far.
        self._unforeseen: list[int] = []
        for level, each in known.levels.items():
            if 0 < level < len(self._below_since):
                self._below_since[level] = min(now, each.below_since)
                self._gaps[level] = Gaps(each.gaps)
                self._returned[level] = Returns(each.returned, each.intervals)
                self._unforeseen.append(level)
            if each.late is not None:
                self._late[level] = each.late
        # (when, arrived by then, level) of needs of whose first start time is not over.
        self._returns: deque[tuple[float, int, int]] = deque()

    def note(self, now: float, needed: int, *, arrived: int, late: Lateness) -> None:
        """So many are needed from now on, which may be noted as seldom as anything changes."""
        while self._unforeseen:
            self._foresee(self._unforeseen.pop(), late)
        while self._returns and now - self._returns[0][0] >= late.start_s - late.wait_target_s:
            _, before, level = self._returns.popleft()
            known = self._late_at(level)
            # Those that come only now have come later than that.
            self._late[level] = known + (late.requests(level, self._arrived - before) - known) * _LATE_STEP
            self._keep_s.pop(level, None)
        self._arrived = arrived
        for level in range(self._needed + 1, needed + 1):
            gap_s = now - self._below_since[level]
            if gap_s > _GAP_S_MIN:
                self._returns.append((now, arrived, level))
                self._gaps.setdefault(level, Gaps()).note(gap_s)
                self._all.note(gap_s)
                self._keep_s.pop(level, None)
                if gap_s > _AWAY_STARTS * late.start_s:
                    self._return(level, now, late)
        for level in range(needed + 1, self._needed + 1):
            self._below_since[level] = now
        self._needed = needed

    def _return(self, level: int, now: float, late: Lateness) -> None:
        self._returned.setdefault(level, Returns()).note(now)
        self._foresee(level, late)

    def _foresee(self, level: int, late: Lateness) -> None:
        miss_cost_s = late.cost_s(self._late_at(level))
        window = self._returned[level].window(lead_s=late.lead_s(miss_cost_s), miss_cost_s=miss_cost_s)
        if window is None:
            self._windows.pop(level, None)
        else:
            self._windows[level] = window

    def expected(self, now: float, needed: int) -> tuple[int, float]:
        """The highest level beyond `needed` that is due, and for how many seconds more it will be; 0 for none."""
        highest, left_s = 0, 0.0
        for level, window in self._windows.items():
            at = self._returned[level].at
            if level > max(needed, highest) and at is not None and at + window.opens_s <= now < at + window.closes_s:
                highest, left_s = level, at + window.closes_s - now
        return highest, left_s

    def due_s(self, now: float) -> float:
        """In how many seconds the next level is due; infinite if none is foreseen."""
        if not self._windows:
            return math.inf
        returned = ((self._returned[level].at, window) for level, window in self._windows.items())
        opens = (at + window.opens_s for at, window in returned if at is not None)
        return min((at - now for at in opens if at > now), default=math.inf)

    def known(self, now: float) -> tuple[Histogram, dict[int, LevelKnown]]:
        """What should outlast it: gaps of all levels together, and what is known of each."""
        return self._all.known(), {
            level: LevelKnown(
                # Those needed at the moment are not until somebody says so again.
                below_since=round(now if level <= self._needed else self._below_since[level], 3),
                late=self._late.get(level),
                gaps=gaps.known(),
                returned=returned.at,
                intervals=tuple(round(interval, 1) for interval in returned.intervals),
            )
            for level, gaps in self._gaps.items()
            if level <= LEVELS_MAX
            for returned in [self._returned.get(level) or Returns()]
        }

    def _late_at(self, level: int) -> float:
        return self._late.get(level, _LATE_FIRST if level == 1 else _LATE_OTHERS)

    def kept(self, now: float, needed: int, active: int, late: Lateness) -> tuple[int, float]:
        """The highest level up to `active` whose worker is worth being kept for now, and for how many seconds more it
        is if nobody comes; 0 for none beyond `needed`.
        """
        highest, left_s = 0, 0.0
        for level in range(needed + 1, min(active, len(self._below_since) - 1) + 1):
            keep = self._keep_s.get(level)
            if keep is None:
                own = self._gaps.get(level) or Gaps()
                window = self._windows.get(level)
                keep = keep_s(
                    own,
                    self._all,
                    miss_cost_s=late.cost_s(self._late_at(level)),
                    long_s=_AWAY_STARTS * late.start_s,
                    long_cost_s=None if window is None else window.cost_s,
                )
                self._keep_s[level] = keep
            if now - self._below_since[level] < keep:
                highest, left_s = level, self._below_since[level] + keep - now
        return highest, left_s

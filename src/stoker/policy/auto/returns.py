"""Needs that come back by the clock: when the next one is due, by how far apart those before were.

What runs every quarter of an hour is not worth keeping a worker for, but worth starting one before it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

INTERVALS_MAX: Final = 32
# So many have to be much the same, and so large a share of all, one that was not being taken for granted.
_ALIKE_MIN: Final = 4
_UNLIKE: Final = 1
_SHARE_MIN: Final = 0.6
# "Much the same": within this share of their length. Of exponential intervals four of four are with a chance of 0.2 %.
_WIDTH: Final = 0.2


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when the next need is due, in seconds after the last one began, `lead_s` for a start included; what
    it costs on the average to wait for it, those needs included that come at another time.
    """

    opens_s: float
    closes_s: float
    cost_s: float


class Returns:
    """Of one level: when it was last needed after a long time, and how far apart such times were."""

    __slots__ = ("at", "intervals")

    def __init__(self, at: float | None = None, intervals: Sequence[float] = ()) -> None:
        self.at = at
        self.intervals: deque[float] = deque(intervals, maxlen=INTERVALS_MAX)

    def note(self, now: float) -> None:
        """It is needed again."""
        if self.at is not None and now > self.at:
            self.intervals.append(now - self.at)
        self.at = now

    def window(self, *, lead_s: float, miss_cost_s: float) -> Window | None:
        """When to have a worker for the next need; `None` where they are not regular, or it is not worth it.

        `miss_cost_s`: seconds of a worker that it costs if none is there.
        """
        ordered = sorted(self.intervals)
        least = max(_ALIKE_MIN, math.ceil(_SHARE_MIN * (len(ordered) + _UNLIKE)))
        best = Window(0.0, 0.0, miss_cost_s)
        for first in range(len(ordered) - least + 1):
            for last in range(first + least - 1, len(ordered)):
                if ordered[last] - ordered[first] <= _WIDTH * ordered[first]:
                    window = _window(ordered, first, last, lead_s, miss_cost_s)
                    best = min(best, window, key=lambda each: each.cost_s)
        return best if best.closes_s else None


def _window(ordered: Sequence[float], first: int, last: int, lead_s: float, miss_cost_s: float) -> Window:
    """The window of those from `first` to `last`, and what it would have cost."""
    # Those to come lie outside of what was seen about as far as those seen lie apart.
    beyond_s = 1.0 + (ordered[last] - ordered[first]) / (last - first)
    opens_s, closes_s = ordered[first] - beyond_s - lead_s, ordered[last] + beyond_s
    wasted_s = closes_s - opens_s
    spent_s = sum(at - opens_s for at in ordered[first : last + 1])
    # Who comes before it is missed; who comes after it, or not at all, has been waited for as well.
    spent_s += first * miss_cost_s + (len(ordered) - 1 - last + _UNLIKE) * (wasted_s + miss_cost_s)
    return Window(opens_s, closes_s, spent_s / (len(ordered) + _UNLIKE))

"""How far the need for workers rises while one starts: learned, so that as many can be ready before they are needed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Final

from stoker.policy.auto.experience import Histogram, histogram

# Rises beyond this many workers count as this many.
_RISE_MAX: Final = 64
# What a rule of thumb says counts as so many seconds of experience, and experience of so many is halved.
_PRIOR_S: Final = 30.0
_EXPERIENCE_S: Final = 2_000.0
# Of a need that nobody has looked at for longer nothing more is learned.
_LASTING_S_MAX: Final = 600.0
_EVERY_S: Final = 1.0
# A need that lasts is taken as so many moments within one start time, or fewer.
_MOMENTS: Final = 16


class Rises:
    """Of moments with a similar need, by how much it rose within one start time: seconds spent so, by rise."""

    __slots__ = ("_at", "_highest", "_moments", "_need", "_seen")

    def __init__(self, known: Mapping[int, Histogram] | None = None) -> None:
        self._at: float | None = None
        self._need = 0
        # (when, need, seconds that it stands for), and those of them that are higher than all after them.
        self._moments: deque[tuple[float, int, float]] = deque()
        self._highest: deque[tuple[float, int]] = deque()
        self._seen = {size: _seen_of(rises) for size, rises in (known or {}).items()}

    def known(self) -> dict[int, Histogram]:
        """What should outlast it, by the size of the need."""
        return {size: histogram(seen[:-1]) for size, seen in self._seen.items()}

    def note(self, now: float, need: int, *, start_s: float) -> None:
        """What is needed from now on, which may be noted as seldom as it changes. Once `start_s` is over, it is known
        what the moments before have led to.
        """
        if self._at is not None:
            if now - self._at < _EVERY_S:
                return
            self._lasted(self._at, now, max(_EVERY_S, start_s / _MOMENTS))
            self._settle(now - start_s)
        self._at, self._need = now, need
        highest = self._highest
        while highest and highest[-1][1] <= need:
            highest.pop()
        highest.append((now, need))

    def _lasted(self, since: float, until: float, every_s: float) -> None:
        """The need was what it was for so long."""
        need, until = self._need, min(until, since + _LASTING_S_MAX)
        # Nobody prepares for the first request.
        while need and since < until:
            length_s = min(every_s, until - since)
            self._moments.append((since, need, length_s))
            since += length_s

    def _settle(self, before: float) -> None:
        """Of the moments before then it is known what they led to."""
        highest, moments = self._highest, self._moments
        while moments and moments[0][0] < before:
            then, was, weight = moments.popleft()
            while highest and highest[0][0] <= then:
                highest.popleft()
            rise = max(0, highest[0][1] - was) if highest else 0
            self._learn(was, min(_RISE_MAX, rise), weight)

    def _learn(self, need: int, rise: int, weight: float) -> None:
        # The last place holds the sum of the others.
        seen = self._seen.setdefault(need.bit_length(), [0.0] * (_RISE_MAX + 2))
        if seen[-1] > _EXPERIENCE_S:
            seen[:] = [seconds / 2 for seconds in seen]
        seen[rise] += weight
        seen[-1] += weight

    def likely(self, need: int, *, chance: float, otherwise: int) -> int:
        """The largest rise that comes with at least this chance; `otherwise` while little is known."""
        seen = self._seen.get(need.bit_length())
        if seen is None:
            return otherwise
        enough = chance * (seen[-1] + _PRIOR_S)
        times = 0.0
        for rise in range(_RISE_MAX, 0, -1):
            times += seen[rise]
            if times + (_PRIOR_S if rise <= otherwise else 0.0) >= enough:
                return rise
        return 0


def _seen_of(known: Histogram) -> list[float]:
    seen = [0.0] * (_RISE_MAX + 2)
    for rise, seconds in known:
        if 0 <= rise <= _RISE_MAX:
            seen[rise] = seconds
    seen[-1] = sum(seen)
    return seen


def rule_of_thumb(slots_needed: float, slots: int, need: int, *, deviations: float = 1.5) -> int:
    """The rise of a need that is Poisson's: so many workers more for so many standard deviations."""
    if slots_needed <= 0:
        return 0
    high = slots_needed + deviations * math.sqrt(slots_needed)
    return max(0, math.ceil(high / slots - 1e-9) - need)

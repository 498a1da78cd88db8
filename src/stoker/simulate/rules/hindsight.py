"""Rules that know the future: the peak from the beginning to the end, and each worker started in time for its need."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stoker.simulate.bounds import levels, needs
from stoker.simulate.run import View
from stoker.simulate.trace import Profile


class StaticPeak:
    """As many workers as are ever needed at once, always; each counts as started."""

    tick_s = 86_400.0
    eager = False

    def __init__(self, arrivals: Sequence[float], services: Sequence[float], profile: Profile) -> None:
        steps = needs(zip(arrivals, services, strict=True), profile.slots)
        self.initial = max((count for _, count in steps), default=0)

    def decide(self, view: View) -> int:
        """The peak."""
        return self.initial


class Clairvoyant:
    """Starts each level as long before its need as a slow start takes, and keeps it through gaps that are shorter than
    a start.
    """

    tick_s = 1.0
    eager = False

    def __init__(self, arrivals: Sequence[float], services: Sequence[float], profile: Profile) -> None:
        lead_s = profile.start_s * math.exp(2 * profile.sigma)
        changes: list[tuple[float, int]] = []
        for level in levels(needs(zip(arrivals, services, strict=True), profile.slots)):
            for since, until in _bridged(level, profile.start_s):
                changes += [(since - lead_s, 1), (until, -1)]
        self._changes = sorted(changes)
        self._next = self._wanted = 0

    def decide(self, view: View) -> int:
        """What is needed a slow start from now."""
        while self._next < len(self._changes) and self._changes[self._next][0] <= view.now:
            self._wanted += self._changes[self._next][1]
            self._next += 1
        return self._wanted

    def due(self) -> float:
        """When the number changes next."""
        return self._changes[self._next][0] if self._next < len(self._changes) else math.inf


def _bridged(level: Sequence[tuple[float, float]], gap_s: float) -> list[tuple[float, float]]:
    kept: list[tuple[float, float]] = []
    for since, until in level:
        if kept and since - kept[-1][1] < gap_s:
            kept[-1] = (kept[-1][0], until)
        else:
            kept.append((since, until))
    return kept

"""Knative's pod autoscaler (KPA): the average of a minute, and of six seconds when it panics."""

from __future__ import annotations

import math

from stoker.simulate.rules.averages import Averages
from stoker.simulate.run import View

_STABLE_S = 60.0
_UP, _DOWN, _PANIC = 1000.0, 2.0, 2.0


class Kpa:
    """`utilisation` of the slots is the target; to zero after a whole empty window of `memory_s`: the
    grace of 30 s is over by then, since the activator is in the path of so few workers all the time."""

    tick_s = 2.0
    # A request that finds nobody is seen at once, all others at the ticks.
    eager = True

    def __init__(self, *, utilisation: float = 0.7, memory_s: float = _STABLE_S) -> None:
        self._utilisation, self._stable_s = utilisation, memory_s
        self._panic_s = max(1.0, memory_s / 10)
        self._averages = Averages(memory_s, fresh=True)
        self._begun = False
        self._wanted: int | None = None
        self._panic_at: float | None = None
        self._panic_most = 0

    def decide(self, view: View) -> int:
        """The number of pods wanted."""
        if view.now % self.tick_s:
            wanted = view.machines.active if self._wanted is None else self._wanted
            self._wanted = wanted or 1
        else:
            self._wanted = self._at_tick(view)
        return self._wanted

    def _at_tick(self, view: View) -> int:
        self._averages.note(view)
        ready = len(view.machines.serving)
        if not self._begun:
            self._begun = True
            if ready > 1:
                # Not to scale down blindly.
                self._panic_at, self._panic_most = view.now, ready
        target = self._utilisation * view.profile.slots
        stable, panic = (self._averages.mean(view, window_s) for window_s in (self._stable_s, self._panic_s))
        return self.scale(view.now, stable / target, panic / target, max(1, ready))

    def scale(self, now: float, stable_pods: float, panic_pods: float, ready: int) -> int:
        """As `Scale` of its autoscaler: from what the means of both windows need, at least one pod being ready."""
        low, high = math.floor(ready / _DOWN), math.ceil(_UP * ready)
        stable, panic = math.ceil(stable_pods - 1e-9), math.ceil(panic_pods - 1e-9)
        over = panic / ready >= _PANIC
        stable, panic = min(max(stable, low), high), min(max(panic, low), high)
        if over:
            if self._panic_at is None:
                self._panic_most = 0
            self._panic_at = now
        elif self._panic_at is not None and now - self._panic_at > self._stable_s:
            self._panic_at = None
        if self._panic_at is not None:
            self._panic_most = max(self._panic_most, panic)
            return self._panic_most
        return stable

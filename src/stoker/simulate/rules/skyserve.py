"""SkyServe's request-rate autoscaler: the rate of a minute, changed after minutes of wanting it."""

from __future__ import annotations

import math

from stoker.simulate.run import View

_WINDOW_S, _PERIOD_S, _UP, _DOWN_S = 60.0, 20.0, 15, 1200.0


class SkyServe:
    """`service_s` is the mean service time, known to it; `utilisation` of the slots gives the rate of a replica."""

    tick_s = 5.0
    eager = False

    def __init__(self, *, service_s: float, utilisation: float = 0.7, memory_s: float = _DOWN_S) -> None:
        self._service_s, self._utilisation = service_s, utilisation
        self._down = max(1, round(memory_s / _PERIOD_S))
        self._target: int | None = None
        self._next = 0.0
        self._ups = self._downs = 0

    def decide(self, view: View) -> int:
        """The target."""
        target = view.machines.active if self._target is None else self._target
        if target and view.now < self._next:
            return target
        self._next = view.now + _PERIOD_S
        rate = self._utilisation * view.profile.slots / self._service_s
        wanted = math.ceil(view.arrived_since(view.now - _WINDOW_S) / _WINDOW_S / rate - 1e-9)
        self._ups = self._ups + 1 if wanted > target else 0
        self._downs = self._downs + 1 if wanted < target else 0
        if target == 0 or self._ups >= _UP or self._downs >= self._down:
            target, self._ups, self._downs = wanted, 0, 0
        self._target = target
        return target

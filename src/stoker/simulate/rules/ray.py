"""Ray Serve's autoscaling by ongoing requests: a change is made once it has been wanted for its whole delay."""

from __future__ import annotations

import math

from stoker.simulate.rules.averages import Averages
from stoker.simulate.run import View

_LOOK_BACK_S, _UP_S, _DOWN_S = 30.0, 30.0, 600.0


class RayServe:
    """The target is `utilisation` of the slots, `memory_s` the delay on the way down."""

    tick_s = 1.0
    eager = True

    def __init__(self, *, utilisation: float = 0.7, memory_s: float = _DOWN_S) -> None:
        self._utilisation, self._down_s = utilisation, memory_s
        self._averages = Averages(_LOOK_BACK_S)
        self._target: int | None = None
        self._up_since: float | None = None
        self._down_since: float | None = None

    def decide(self, view: View) -> int:
        """The number of replicas wanted."""
        self._averages.note(view)
        target = view.machines.active if self._target is None else self._target
        self._target = self._next(view, target)
        return self._target

    def _next(self, view: View, target: int) -> int:
        now = view.now
        if target == 0:
            self._up_since = self._down_since = None
            return 1 if view.present else 0
        running = len(view.machines.serving)
        if not running:
            return target
        ongoing = self._averages.mean(view, _LOOK_BACK_S)
        desired = math.ceil(ongoing / (self._utilisation * view.profile.slots) - 1e-9)
        if desired > target:
            self._down_since = None
            self._up_since = now if self._up_since is None else self._up_since
            if now - self._up_since >= _UP_S:
                self._up_since = None
                return desired
        elif desired < target:
            self._up_since = None
            self._down_since = now if self._down_since is None else self._down_since
            if now - self._down_since >= self._down_s:
                self._down_since = None
                # From one to zero is the only way to zero.
                return max(desired, 1) if target > 1 else desired
        else:
            self._up_since = self._down_since = None
        return target

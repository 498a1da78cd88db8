"""The HPA of Kubernetes under KEDA with its HTTP add-on: KEDA decides between nothing and one, the HPA above."""

from __future__ import annotations

import math
from collections import deque

from stoker.simulate.run import View

# Its first look is the fifteenth of one a second, as in the reference figures; those of bursty traces depend on it.
_PHASE_S = 14.0
_PERIOD_S, _TOLERANCE, _COOLDOWN_S, _STABILISATION_S = 15.0, 0.1, 300.0, 300.0


class HpaKeda:
    """The target is `utilisation` of the slots; the highest recommendation of `memory_s` holds on the way down. Its
    first period ends at `phase_s`.
    """

    tick_s = 1.0
    eager = True

    def __init__(
        self, *, utilisation: float = 0.7, memory_s: float = _STABILISATION_S, phase_s: float = _PHASE_S
    ) -> None:
        self._utilisation, self._phase_s = utilisation, phase_s
        self._memory_s, self._cooldown_s = memory_s, memory_s
        self._recommended: deque[tuple[float, int]] = deque()
        self._busy_at = 0.0
        self._next = phase_s
        self._wanted: int | None = None

    def decide(self, view: View) -> int:
        """The number wanted."""
        now = view.now
        wanted = view.machines.active if self._wanted is None else self._wanted
        if view.present:
            self._busy_at = now
            wanted = max(wanted, 1)
        if now >= self._next:
            self._next = (math.floor((now - self._phase_s) / _PERIOD_S) + 1) * _PERIOD_S + self._phase_s
            if wanted:
                wanted = self._period(view, wanted)
        if wanted and not view.present and now - self._busy_at >= self._cooldown_s:
            wanted = 0
            self._recommended.clear()
        self._wanted = wanted
        return wanted

    def _period(self, view: View, current: int) -> int:
        now = view.now
        wanted = hpa(view.present, self._utilisation * view.profile.slots, current)
        wanted = min(wanted, max(2 * current, current + 4))
        while self._recommended and self._recommended[0][0] < now - self._memory_s:
            self._recommended.popleft()
        while self._recommended and self._recommended[-1][1] <= wanted:
            self._recommended.pop()
        self._recommended.append((now, wanted))
        return max(wanted, self._recommended[0][1])


def hpa(present: float, target: float, current: int) -> int:
    """What the HPA recommends for an average value, at least 1.

    >>> hpa(8, 0.5, 1)
    16
    """
    if abs(present / (target * current) - 1.0) <= _TOLERANCE:
        return current
    return max(1, math.ceil(present / target - 1e-9))

"""Stoker's own decisions, as in production: `stoker.policy.scaling.decide`, fed with what its gateway would report."""

from __future__ import annotations

from collections import deque

from stoker.domain.endpoint import ScaleBounds, ScalingPolicy
from stoker.policy.scaling import Signals, decide
from stoker.simulate.run import View
from stoker.simulate.trace import Profile


class Concurrency:
    """Requests present over what a worker should hold; the highest of `memory_s` holds, `5 * memory_s` to zero."""

    tick_s = 1.0
    eager = True

    def __init__(self, profile: Profile, *, utilisation: float = 1.0, memory_s: float = 60.0) -> None:
        self._policy = ScalingPolicy(
            target=profile.slots * utilisation, scale_down_delay_s=memory_s, idle_timeout_s=5 * memory_s
        )
        self._bounds = ScaleBounds(max=profile.workers_max)
        self._peaks: deque[tuple[float, int]] = deque()
        self._busy_at = 0.0
        self._current: int | None = None

    def decide(self, view: View) -> int:
        """The number wanted."""
        now, present = view.now, view.present
        if present:
            self._busy_at = now
        while self._peaks and self._peaks[0][0] < now - self._policy.scale_down_delay_s:
            self._peaks.popleft()
        while self._peaks and self._peaks[-1][1] <= present:
            self._peaks.pop()
        self._peaks.append((now, present))
        signals = Signals(
            in_flight=view.in_flight,
            waiting=len(view.queue),
            demand_peak=float(self._peaks[0][1]),
            busy_at=self._busy_at,
        )
        current = view.machines.active if self._current is None else self._current
        decision = decide(self._policy, self._bounds, signals, slots=view.profile.slots, current=current, now=now)
        self._current = decision.workers
        return decision.workers

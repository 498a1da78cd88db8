"""Vast's serverless rule: load, averaged, over what workers may be used to, and more when the queue is long."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from stoker.simulate.run import View

_AVERAGE_S, _INACTIVE_S, _QUEUE_S = 60.0, 60.0, 10.0


class Vast:
    """The load of a request is its work, known when it arrives; `utilisation` is `target_util`."""

    tick_s = 2.0
    eager = False

    def __init__(
        self,
        *,
        arrivals: Sequence[float],
        services: Sequence[float],
        utilisation: float = 0.9,
        memory_s: float = _AVERAGE_S,
    ) -> None:
        self._arrivals, self._services, self._utilisation, self._memory_s = arrivals, services, utilisation, memory_s
        self._window: deque[tuple[float, float]] = deque()
        self._seen = 0
        self._work = 0.0
        self._busy_at = 0.0

    def decide(self, view: View) -> int:
        """The number wanted."""
        now, slots = view.now, view.profile.slots
        while self._seen < view.arrived:
            work = self._services[self._seen]
            self._window.append((self._arrivals[self._seen], work))
            self._work += work
            self._seen += 1
        while self._window and self._window[0][0] <= now - self._memory_s:
            self._work -= self._window.popleft()[1]
        if view.present:
            self._busy_at = now
        load = max(0.0, self._work) / self._memory_s
        wanted = math.ceil(load / slots / self._utilisation - 1e-9)
        if view.queue:
            wanted = max(wanted, 1)
            if view.oldest_wait_s > _QUEUE_S:
                # Its queue is longer than its target: enough for it to be empty in as long.
                queued = sum(self._services[i] for i in view.queue)
                wanted = max(wanted, math.ceil((queued / _QUEUE_S + view.in_flight) / slots))
        if wanted == 0 and now - self._busy_at < _INACTIVE_S:
            return min(1, view.machines.active)
        return wanted

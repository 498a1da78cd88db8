"""Rules that take away each worker that has been idle for some time: RunPod's two, and a keep-alive as Modal's."""

from __future__ import annotations

import math

from stoker.simulate.pool import Machine
from stoker.simulate.run import View


def idle(view: View, idle_s: float) -> list[Machine]:
    """The ready workers that have been idle for so long."""
    return [m for m in view.machines.serving if not m.busy and view.now - m.idle_since >= idle_s]


class RunPodDelay:
    """Queue delay: workers for those who wait longer than `delay_s`, less the workers that load."""

    tick_s = 1.0
    eager = False

    def __init__(self, *, delay_s: float = 4.0, memory_s: float = 5.0) -> None:
        self._delay_s, self._idle_s = delay_s, memory_s

    def decide(self, view: View) -> int:
        """The number wanted."""
        late = view.waiting_longer_than(self._delay_s) if view.queue else 0
        add = math.ceil(late / view.profile.slots) - len(view.machines.loading)
        return view.machines.active + max(0, add)

    def leaving(self, view: View) -> list[Machine]:
        """Those that have been idle for long enough."""
        return idle(view, self._idle_s)


class RunPodCount:
    """Request count: a worker for every `slots` requests queued or in progress."""

    tick_s = 1.0
    eager = False

    def __init__(self, *, utilisation: float = 1.0, memory_s: float = 5.0) -> None:
        self._utilisation, self._idle_s = utilisation, memory_s

    def decide(self, view: View) -> int:
        """The number wanted."""
        needed = math.ceil(view.present / (view.profile.slots * self._utilisation) - 1e-9)
        return max(needed, view.machines.active)

    def leaving(self, view: View) -> list[Machine]:
        """Those that have been idle for long enough."""
        return idle(view, self._idle_s)


class KeepAlive(RunPodCount):
    """The same with a minute."""

    def __init__(self, *, utilisation: float = 1.0, memory_s: float = 60.0) -> None:
        super().__init__(utilisation=utilisation, memory_s=memory_s)

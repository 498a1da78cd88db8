"""One snapshot per provider, with its age. A failed list leaves the old snapshot as it was: it proves nothing new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from stoker.control.loop import Loop
from stoker.domain.errors import Unavailable
from stoker.domain.worker import Observed, WorkerId
from stoker.policy.lifecycle import Sight
from stoker.providers.base import Provider

log = structlog.get_logger(__name__)

# Most workers end within a tenth of a second, a server that finishes something takes a little longer.
LOOKS_AFTER_STOP_S = (0.1, 0.3, 0.6)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A complete list of one provider, begun at `begun_at` (seconds since the epoch)."""

    begun_at: float
    workers: Mapping[WorkerId, Observed]


class Observer:
    """Lists one provider every `period_s`, or sooner when woken, and says which workers look different from before."""

    def __init__(
        self,
        name: str,
        provider: Provider,
        *,
        clock: Callable[[], float],
        seen: Callable[[str, Snapshot, frozenset[WorkerId]], None],
        period_s: float = 1.0,
    ) -> None:
        self.name = name
        self.snapshot: Snapshot | None = None
        self._provider = provider
        self._clock = clock
        self._seen = seen
        self._soon: list[asyncio.TimerHandle] = []
        self.loop = Loop(f"observe {name}", self.observe, period_s=period_s)

    async def observe(self) -> None:
        """Take one snapshot."""
        begun_at = self._clock()
        try:
            listed = await self._provider.list()
        except Unavailable as exc:
            log.warning("provider_unavailable", provider=self.name, error=str(exc))
            return
        before = {} if self.snapshot is None else self.snapshot.workers
        self.snapshot = Snapshot(begun_at, {observed.id: observed for observed in listed})
        after = self.snapshot.workers
        changed = frozenset(
            worker
            for worker in before.keys() | after.keys()
            if (was := before.get(worker)) is not (found := after.get(worker)) and was != found
        )
        self._seen(self.name, self.snapshot, changed)

    def look_soon(self) -> None:
        """A stop was asked for: look now, and shortly after, when the worker will most likely have ended. Whoever waits
        for its hardware does not wait for the period.
        """
        self.loop.wake()
        if self._soon and self._soon[-1].when() > asyncio.get_running_loop().time():
            return
        self._soon = [asyncio.get_running_loop().call_later(after_s, self.loop.wake) for after_s in LOOKS_AFTER_STOP_S]

    def close(self) -> None:
        """Set no more timers."""
        for timer in self._soon:
            timer.cancel()

    def sight(self, worker: WorkerId) -> Sight | None:
        """What is known of one worker; `None` before the first snapshot."""
        if self.snapshot is None:
            return None
        return Sight(self.snapshot.begun_at, self.snapshot.workers.get(worker))

"""What providers say of starts that take their time, such as how far an image is: written down as endpoints' events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from stoker.control.change import Change, EventDraft
from stoker.control.fleet import Fleet
from stoker.domain.errors import StokerError
from stoker.domain.worker import WorkerId

log = structlog.get_logger(__name__)

KIND = "worker_progress"
WAITING_MAX = 1_000


class Sayings:
    """`say` at any time, in order; `run` writes."""

    def __init__(self, fleet: Fleet, *, clock: Callable[[], float]) -> None:
        self._fleet, self._clock = fleet, clock
        self._waiting: asyncio.Queue[tuple[WorkerId, str, float]] = asyncio.Queue(WAITING_MAX)

    def say(self, worker: WorkerId, text: str) -> None:
        """Never waits: what comes too fast is only logged."""
        log.info("worker_progress", worker=worker, message=text)
        if not self._waiting.full():
            self._waiting.put_nowait((worker, text, self._clock()))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            worker, text, at = await self._waiting.get()
            try:
                await self._write(worker, text, at)
            except StokerError as exc:
                log.warning("worker_progress_lost", worker=worker, error=str(exc))

    async def _write(self, worker: WorkerId, text: str, at: float) -> None:
        known = self._fleet.worker(worker)
        if known is None:
            return
        async with self._fleet.lock(known.endpoint):
            endpoint = self._fleet.endpoint(known.endpoint)
            if endpoint is not None:
                draft = EventDraft(at=at, kind=KIND, message=text, worker=worker)
                await self._fleet.commit(Change(endpoint=endpoint, events=[draft]))

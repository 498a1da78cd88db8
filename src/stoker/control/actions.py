"""Carries out starts and stops at one provider: in order for each worker, a bounded number at once, again until done.

Only called after the intent is in the store, so that a control which dies in between finds it there and asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from stoker.control.loop import backoff_s
from stoker.domain.errors import StokerError, Unavailable
from stoker.domain.worker import WorkerId, WorkerSpec
from stoker.providers.base import Provider

log = structlog.get_logger(__name__)

CALLS_AT_ONCE = 32
Call = Callable[[], Awaitable[None]]
TRIES_MAX = 20
# Whoever waits for a worker is told why after that long: most of what is away is back by then.
TOLD_AFTER_S = 1.0


class Actions:
    """`acknowledged(worker)` is awaited after a confirmed start, `refused(worker, reason)` after one that cannot be.
    `complete(spec)` looks up, right before a start, what no record may hold. `said(worker, text)` hears once of each
    start that has to be tried again.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        acknowledged: Callable[[WorkerId], Awaitable[None]],
        refused: Callable[[WorkerId, str], Awaitable[None]],
        stopped: Callable[[], None],
        complete: Callable[[WorkerSpec], Awaitable[WorkerSpec]] | None = None,
        said: Callable[[WorkerId, str], None] = lambda worker, text: None,
    ) -> None:
        self._provider = provider
        self._acknowledged = acknowledged
        self._refused = refused
        self._stopped = stopped
        self._complete = complete
        self._said = said
        self._room = asyncio.Semaphore(CALLS_AT_ONCE)
        self._tasks: dict[WorkerId, asyncio.Task[None]] = {}
        self._starting: set[WorkerId] = set()
        self._pausing: set[WorkerId] = set()

    def settled(self, worker: WorkerId) -> bool:
        """Is nothing under way for this worker?"""
        return worker not in self._tasks

    def start(self, spec: WorkerSpec, *, then: Call | None = None) -> None:
        """Ask for a start, unless one is under way for this worker; `then` belongs to it and is as safe to repeat."""
        running = self._tasks.get(spec.id)
        if running is None or spec.id in self._pausing:
            self._starting.add(spec.id)
            self._run(spec.id, self._start(spec, then, after=running))

    def pause(self, worker: WorkerId, call: Call) -> None:
        """Have it kept cold by `call`, unless something is under way for it. `refused` when that cannot be done."""
        if worker not in self._tasks:
            self._pausing.add(worker)
            self._run(worker, self._pause(worker, call))

    def stop(self, worker: WorkerId, *, grace_s: float) -> None:
        """Ask for the end, after a start that is under way."""
        running = self._tasks.get(worker)
        if running is None or worker in self._starting or worker in self._pausing:
            self._starting.discard(worker)
            self._run(worker, self._stop(worker, grace_s, after=running))

    def _run(self, worker: WorkerId, call: Awaitable[None]) -> None:
        async def run() -> None:
            try:
                await call
            except Exception as exc:
                # A pass finds the worker unacknowledged and settled, and asks again.
                log.error("action_failed", worker=worker, error=str(exc), exc_info=True)
            finally:
                if self._tasks.get(worker) is asyncio.current_task():
                    del self._tasks[worker]
                    self._starting.discard(worker)
                    self._pausing.discard(worker)

        self._tasks[worker] = asyncio.create_task(run(), name=f"action {worker}")

    async def _start(self, spec: WorkerSpec, then: Call | None, *, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
            self._pausing.discard(spec.id)
        why, told, begun_at = "", False, asyncio.get_running_loop().time()
        for attempt in range(1, TRIES_MAX + 1):
            if spec.id not in self._starting:
                return
            try:
                async with self._room:
                    await self._provider.start(spec if self._complete is None else await self._complete(spec))
                    if then is not None:
                        await then()
            except Unavailable as exc:
                why = str(exc)
                log.warning("start_unavailable", worker=spec.id, attempt=attempt, error=why)
                if not told and asyncio.get_running_loop().time() - begun_at >= TOLD_AFTER_S:
                    told = True
                    self._said(spec.id, f"its start is tried again: {why}")
                await asyncio.sleep(backoff_s(attempt))
                continue
            except (StokerError, OSError) as exc:
                await self._refused(spec.id, str(exc))
                return
            await self._acknowledged(spec.id)
            return
        await self._refused(spec.id, f"its provider did not take the start in {TRIES_MAX} tries: {why}")

    async def _pause(self, worker: WorkerId, call: Call) -> None:
        why = ""
        for attempt in range(1, TRIES_MAX + 1):
            try:
                async with self._room:
                    await call()
            except Unavailable as exc:
                why = str(exc)
                log.warning("pause_unavailable", worker=worker, attempt=attempt, error=why)
                await asyncio.sleep(backoff_s(attempt))
                continue
            except (StokerError, OSError) as exc:
                await self._refused(worker, str(exc))
            return
        await self._refused(worker, f"it could not be kept cold in {TRIES_MAX} tries: {why}")

    async def _stop(self, worker: WorkerId, grace_s: float, *, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        for attempt in range(1, TRIES_MAX + 1):
            try:
                async with self._room:
                    await self._provider.stop(worker, grace_s=grace_s)
            except (Unavailable, OSError) as exc:
                log.warning("stop_unavailable", worker=worker, attempt=attempt, error=str(exc))
                await asyncio.sleep(backoff_s(attempt))
                continue
            break
        self._stopped()

    async def finished(self, *, timeout_s: float) -> None:
        """Wait until nothing is under way, or the time is over."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks.values()), timeout=timeout_s)

    async def close(self) -> None:
        """Give up what is under way; the next control asks again."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""Ends tasks whose time is over while they wait, and forgets those whose record has been kept long enough."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from sqlalchemy import Connection

from stoker.control.fleet import Fleet
from stoker.control.loop import Loop
from stoker.domain.endpoint import EndpointId, Phase
from stoker.domain.task import Task, TaskState
from stoker.queue.backlog import Backlog
from stoker.queue.ends import Ends
from stoker.queue.spool import Spool
from stoker.store import tasks as rows
from stoker.store.base import Store

log = structlog.get_logger(__name__)

EXPIRE_PERIOD_S = 1.0
FORGET_PERIOD_S = 30.0
SWEEP_PERIOD_S = 3_600.0
# Of one transaction: a few milliseconds of the writer's time.
STEP = 500


class Tidying:
    """Run its `loops`."""

    def __init__(
        self, store: Store, fleet: Fleet, backlog: Backlog, spool: Spool, ends: Ends, *, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._backlog = backlog
        self._spool = spool
        self._ends = ends
        self._clock = clock

    def loops(self) -> tuple[Loop, ...]:
        """What is to be done again and again."""
        return (
            Loop("expiry of tasks", self.expire, period_s=EXPIRE_PERIOD_S),
            Loop("retention of tasks", self.forget, period_s=FORGET_PERIOD_S),
            Loop("spool", self.sweep, period_s=SWEEP_PERIOD_S),
        )

    async def expire(self) -> None:
        """End queued tasks that have not started in time, and those of endpoints that are going or gone."""
        # Nothing waits: nothing is asked.
        if not self._backlog.endpoints():
            return
        await self._end(
            lambda tx: rows.expired(tx, now=self._clock(), limit=STEP),
            TaskState.EXPIRED,
            "not started within its time to live",
        )
        for endpoint in self._backlog.endpoints():
            known = self._fleet.endpoint(endpoint)
            if known is None or known.phase is Phase.DELETING:
                await self._end(
                    lambda tx, e=endpoint: rows.queued_of(tx, e, limit=STEP),  # type: ignore[misc]
                    TaskState.CANCELLED,
                    "the endpoint is deleted",
                )

    async def _end(self, over: Callable[[Connection], tuple[Task, ...]], state: TaskState, reason: str) -> None:
        def end(tx: Connection) -> list[Task]:
            ended = [self._ends.end_queued(tx, task, state, reason) for task in over(tx)]
            return [task for task in ended if task is not None]

        while ended := await self._store.write(end):
            for task in ended:
                self._ends.announce_queued(task)
            if len(ended) < STEP:
                return

    async def forget(self) -> None:
        """Forget ended tasks whose time has passed, with their files, and pauses of endpoints that are gone."""
        now = self._clock()
        # Asked first: most times there are none, and a write costs the disk something.
        while await self._store.read(lambda tx: rows.is_any_to_forget(tx, now=now)):
            files, gone = await self._store.write(lambda tx: rows.forget(tx, now=now, limit=STEP))
            self._backlog.forgotten(gone)
            await self._spool.remove(files)
        for endpoint in tuple(self._backlog.paused):
            if self._fleet.endpoint(EndpointId(endpoint)) is None:
                await self._store.write(lambda tx, e=endpoint: rows.resume(tx, e))  # type: ignore[misc]
                self._backlog.paused.discard(endpoint)

    async def sweep(self) -> None:
        """Remove files that no task names."""
        removed = await self._spool.sweep(await self._store.read(rows.files))
        if removed:
            log.info("spool_swept", files=removed)

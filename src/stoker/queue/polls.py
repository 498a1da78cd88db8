"""Workers that wait for jobs, and who gets which: questions are held, and answered in the order in which they came.

Made and run by `stoker.queue.pulls`, which knows what becomes of jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from stoker.control.fleet import Fleet
from stoker.domain.endpoint import Endpoint, EndpointId, Phase
from stoker.domain.errors import Unavailable
from stoker.domain.pulling import Job
from stoker.domain.task import Task, TaskState
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.queue.attempts import Seen, Sight
from stoker.queue.backlog import Backlog
from stoker.queue.ends import Ends
from stoker.queue.spool import Spool
from stoker.queue.taken import Jobs, Taken
from stoker.store import tasks as rows
from stoker.store.base import Store
from stoker.store.hot.base import Lease

# Below what clients and whatever stands between wait for an answer.
HOLD_S: Final = 20.0
BATCH_MAX: Final = 64
# Inputs that one answer carries, unless a single one is larger.
BATCH_BYTES_MAX: Final = 16 * 1024 * 1024
# How long control holds on to what its workers hold; another control goes on with it.
CLAIM_S: Final = 60.0
# What the records call a worker that took a task.
HOLDER: Final = "pull:"


def is_pulled(task: Task) -> bool:
    """Did a worker take it itself, rather than a gateway hand it out?"""
    return task.holder is not None and is_puller(task.holder)


def is_puller(holder: str) -> bool:
    """Is that what the records call a worker, rather than a gateway?"""
    return holder.startswith(HOLDER)


@dataclass(slots=True, eq=False)
class _Poll:
    """A worker that waits for up to `wanted` jobs. `over`: it waits no longer."""

    worker: WorkerId
    wanted: int
    found: asyncio.Future[list[Taken]]
    over: bool = False


class Polls:
    """See the module. `endpoints` has those that anybody waits at."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        backlog: Backlog,
        spool: Spool,
        ends: Ends,
        jobs: Jobs,
        *,
        conclude: Callable[[Taken, Sight], Awaitable[None]],
        changed: Callable[[EndpointId], None],
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """`conclude(job, sight)` ends a job, `changed(endpoint)` is told of other demand, `wake` has `step` called."""
        self._store = store
        self._fleet = fleet
        self._backlog = backlog
        self._spool = spool
        self._ends = ends
        self._jobs = jobs
        self._conclude = conclude
        self._changed = changed
        self._wake = wake
        self._clock = clock
        self.endpoints: dict[EndpointId, dict[_Poll, None]] = {}

    def close(self) -> None:
        """Let go of all that wait: they ask the next control."""
        for polls in self.endpoints.values():
            for poll in polls:
                if not poll.found.done():
                    poll.found.set_result([])

    def leaves(self, worker: WorkerId) -> bool:
        """Is it gone, or to go at once?"""
        found = self._fleet.worker(worker)
        return found is None or found.gone or found.state is WorkerState.STOPPING

    async def take(self, worker: Worker, wanted: int) -> tuple[Job, ...]:
        """Up to `wanted` jobs, as soon as there are any and it has slots for them; none after a while without."""
        if worker.state is WorkerState.STOPPING:
            return ()
        poll = _Poll(worker.id, min(wanted, BATCH_MAX), asyncio.get_running_loop().create_future())
        self.endpoints.setdefault(worker.endpoint, {})[poll] = None
        self._wake()
        try:
            # Not a timeout around it: one that strikes with the answer would lose it.
            await asyncio.wait([poll.found], timeout=HOLD_S)
            jobs = [await self._job(job) for job in (poll.found.result() if poll.found.done() else ())]
            return tuple(job for job in jobs if job is not None)
        except BaseException:
            # Whoever asked is gone, or the store is: nobody has seen these.
            if poll.found.done():
                await asyncio.shield(self._give_back(poll.found.result()))
            raise
        finally:
            poll.over = True
            self._dismiss(worker.endpoint, poll)

    def _dismiss(self, endpoint: EndpointId, poll: _Poll) -> None:
        polls = self.endpoints[endpoint]
        del polls[poll]
        if not polls:
            del self.endpoints[endpoint]

    async def _job(self, job: Taken) -> Job | None:
        task = job.task
        try:
            content = await self._spool.read(task.input)
        except Unavailable as exc:
            await self._conclude(job, Sight(seen=Seen.FAILED, reason=str(exc)))
            return None
        return Job(id=task.id, input=content or b"null", attempt=task.attempts + 1, delivery=task.deliveries)

    async def step(self) -> None:
        """Let those go that are to stop, and hand out what can go now."""
        for polls in self.endpoints.values():
            for poll in polls:
                if not poll.found.done() and self.leaves(poll.worker):
                    poll.found.set_result([])
        await asyncio.gather(*(self._hand_out(endpoint) for endpoint in tuple(self.endpoints)))

    async def _hand_out(self, endpoint: EndpointId) -> None:
        now = self._clock()
        known = self._fleet.endpoint(endpoint)
        if known is None or known.phase is not Phase.ACTIVE or not known.spec.queue.pull:
            return
        leases = self._wanted(known, now)
        for poll, wanted in leases:
            self._jobs.reserve(endpoint, poll.worker, wanted.limit)
        try:
            if leases:
                found = await self._store.write(lambda tx: [rows.lease(tx, wanted) for _, wanted in leases])
                await self._handed([(poll, tasks) for (poll, _), tasks in zip(leases, found, strict=True) if tasks])
        finally:
            for poll, wanted in leases:
                self._jobs.reserve(endpoint, poll.worker, -wanted.limit)

    def _wanted(self, endpoint: Endpoint, now: float) -> list[tuple[_Poll, Lease]]:
        """Who may have how many, whoever asked first going first."""
        ready, held = self._backlog.ready(endpoint.id, now), self._jobs.held(endpoint.id)
        leases = []
        for poll in self.endpoints.get(endpoint.id, {}):
            worker = self._fleet.worker(poll.worker)
            if poll.found.done() or worker is None or worker.state is not WorkerState.READY:
                continue
            limit = min(poll.wanted, worker.slots - held.get(worker.id, 0), ready)
            if limit > 0:
                ready -= limit
                held[worker.id] = held.get(worker.id, 0) + limit
                leases.append((poll, Lease(endpoint.id, now, limit, f"{HOLDER}{worker.id}", now + CLAIM_S)))
        return leases

    async def _handed(self, found: list[tuple[_Poll, list[Task]]]) -> None:
        now, back = self._clock(), []
        for poll, tasks in found:
            self._backlog.started(tasks[0].endpoint, [task.number for task in tasks])
            jobs = [Taken(task, poll.worker, now, now) for task in tasks]
            for job in jobs:
                self._jobs.add(job)
            fitting = [] if poll.over else jobs[: _fitting(tasks)]
            back += jobs[len(fitting) :]
            if fitting:
                poll.found.set_result(fitting)
            self._changed(tasks[0].endpoint)
        await self._give_back(back)

    async def _give_back(self, jobs: list[Taken]) -> None:
        """No worker has seen them: as if they had never been leased."""
        back = [job for job in jobs if job.task.number in self._jobs and not job.ending]
        if not back:
            return
        given = [(int(job.task.number), job.task.lease or "") for job in back]
        for job in back:
            job.ending = True
        try:
            await self._store.write(lambda tx: rows.give_back(tx, given))
        except BaseException:
            # No worker will ever name them: they lapse.
            for job in back:
                job.ending = False
            raise
        for job in back:
            self._jobs.remove(job)
            self._backlog.stopped(job.task.endpoint)
            self._backlog.returned(job.task.endpoint, job.task.number)
            if job.asked_at is not None:
                await self._ends.end(job.task, TaskState.CANCELLED, "cancelled")
        self._wake()


def _fitting(tasks: list[Task]) -> int:
    """How many of them go into one answer: at least one."""
    count, size = 0, 0
    for task in tasks:
        size += task.input.size
        if count and size > BATCH_BYTES_MAX:
            break
        count += 1
    return count

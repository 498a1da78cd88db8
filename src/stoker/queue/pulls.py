"""Workers that ask for tasks themselves: what they take, when they are heard of, and what they say came of it.

A lease is as good as its worker's pings: one that ends, or is not heard of, has lost what it had, and others get it.
Nothing here knows HTTP; the faces do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import structlog

from stoker.control.fleet import Fleet
from stoker.control.loop import Loop
from stoker.domain.endpoint import EndpointId
from stoker.domain.errors import Unauthenticated
from stoker.domain.pulling import Job, JobReport, cause_of
from stoker.domain.task import Task, TaskState
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.policy.leases import Fate, Heard, fate
from stoker.queue.attempts import Output, Seen, Sight
from stoker.queue.backlog import Backlog
from stoker.queue.conclusions import Conclusions
from stoker.queue.ends import Ends
from stoker.queue.hearing import Line
from stoker.queue.polls import HOLD_S, HOLDER, Polls
from stoker.queue.spool import Spool
from stoker.queue.streams import TYPE, Streams, result_of
from stoker.queue.taken import Jobs, Taken
from stoker.store.base import Store

log = structlog.get_logger(__name__)

# With workers, and without any.
PERIOD_S: Final = 1.0
IDLE_S: Final = 30.0
_FORGOTTEN: Final = "on the way to its worker or back"


class Pulls:
    """See the module. `adopt` what runs at the start, then run the `loops`."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        backlog: Backlog,
        spool: Spool,
        ends: Ends,
        conclusions: Conclusions,
        streams: Streams,
        *,
        ready: Callable[[WorkerId], None],
        unhealthy: Callable[[WorkerId, str], None],
        is_token: Callable[[str, WorkerId], bool],
        changed: Callable[[EndpointId], None],
        output_bytes_max: int,
        clock: Callable[[], float],
    ) -> None:
        """`ready(worker)` and `unhealthy(worker, why)` are told what is heard of workers; `is_token(token, worker)`
        says whether it is that worker's; `changed(endpoint)` is called when its demand is another one.
        """
        self._store = store
        self._fleet = fleet
        self._backlog = backlog
        self._spool = spool
        self._ends = ends
        self._conclusions = conclusions
        self._streams = streams
        self._ready = ready
        self._unhealthy = unhealthy
        self._is_token = is_token
        self._changed = changed
        self._clock = clock
        self.output_bytes_max = output_bytes_max
        self._began_at = clock()
        self._jobs = Jobs()
        self._lines: dict[WorkerId, Line] = {}
        self.loop = Loop("workers that pull", self.step, period_s=IDLE_S)
        self._next: asyncio.TimerHandle | None = None
        self._polls = Polls(
            store,
            fleet,
            backlog,
            spool,
            ends,
            self._jobs,
            conclude=self.conclude,
            changed=changed,
            wake=self.loop.wake,
            clock=clock,
        )

    async def start(self) -> None:
        """Once all that runs is adopted."""
        await self._streams.sweep(lease for _, lease in self.leases())

    def loops(self) -> tuple[Loop, ...]:
        """What is to be done again and again."""
        return (self.loop, Loop("states of workers that pull", self._watch, period_s=0.0))

    def close(self) -> None:
        """Let go of all that wait: they ask the next control."""
        if self._next is not None:
            self._next.cancel()
        self._polls.close()
        for line in self._lines.values():
            line.closed = True
            line.told.set()

    def taken(self, endpoint: EndpointId) -> dict[WorkerId, int]:
        """How many tasks its workers have."""
        return self._jobs.held(endpoint)

    def leases(self) -> list[tuple[int, str]]:
        """What is held here, by number and lease."""
        return [(job.task.number, job.task.lease or "") for job in self._jobs]

    # What others say

    def adopt(self, task: Task) -> None:
        """A worker took it from an earlier control: it has all the time of a lease to be heard of."""
        if task.number in self._jobs:
            return
        assert task.holder is not None
        now = self._clock()
        self._backlog.adopted(task.endpoint)
        worker = WorkerId(task.holder.removeprefix(HOLDER))
        self._jobs.add(Taken(task, worker, now, now, known=True, asked_at=now if task.cancelling else None))

    def added(self, endpoint: EndpointId) -> None:
        """There is more to hand out."""
        if endpoint in self._polls.endpoints:
            self.loop.wake()

    def cancel(self, number: int) -> bool:
        """Have its worker give it up. False when no worker has taken it."""
        job = self._jobs.get(number)
        if job is None:
            return False
        if job.asked_at is None:
            job.asked_at = self._clock()
            self._line(job.worker).told.set()
        return True

    # What workers say

    def worker(self, endpoint: str, worker: str, token: str | None) -> Worker:
        """The worker that this token proves, which is heard of by that. Raises `Unauthenticated`."""
        found = self._fleet.worker(WorkerId(worker))
        if token is None or found is None or found.gone or found.endpoint != endpoint:
            raise Unauthenticated("no worker that asks for tasks has this token")
        if self._fleet.ping_s(found) is None or not self._is_token(token, found.id):
            raise Unauthenticated("no worker that asks for tasks has this token")
        self._line(found.id).seen_at = self._clock()
        return found

    def _line(self, worker: WorkerId) -> Line:
        line = self._lines.get(worker)
        if line is None:
            line = self._lines[worker] = Line(self._began_at)
        return line

    async def take(self, worker: Worker, wanted: int) -> tuple[Job, ...]:
        """Up to `wanted` jobs, as soon as there are any and it has slots for them; none after a while without."""
        if worker.state is WorkerState.STARTING:
            self._ready(worker.id)
        return await self._polls.take(worker, wanted)

    def pinged(self, worker: Worker, ids: Iterable[str]) -> list[Taken]:
        """It is there, and has these. What it was to give up, and has no longer."""
        now, named = self._clock(), set(ids) - {""}
        given_up, jobs = [], self._jobs.of(worker.id)
        self._line(worker.id).named(named, {job.task.id for job in jobs}, now)
        for job in jobs:
            if job.task.id in named:
                job.named_at, job.known = now, True
            elif job.asked_at is not None and job.told and job.known and not job.ending:
                given_up.append(job)
        return given_up

    async def ping(self, worker: Worker, ids: Iterable[str]) -> None:
        """The same, recorded."""
        for job in self.pinged(worker, ids):
            await self.conclude(job, Sight(seen=Seen.FAILED, reason="aborted"))

    async def stream(self, worker: Worker, id: str, piece: bytes | None) -> bool:
        """A piece of a job's output: JSON in one line; `None`: it is just not ready yet. False when the worker does not
        have that job (any more).
        """
        job = self._jobs.find(worker.id, id)
        if job is None or job.ending:
            return False
        job.named_at, job.known = self._clock(), True
        if piece is None:
            return True
        if not await self._streams.append(job.task.lease or "", piece, bytes_max=self.output_bytes_max):
            report = JobReport(error=f"the output has more than {self.output_bytes_max} bytes")
            return await self.done(worker, id, report)
        job.grown.set()
        return True

    @asynccontextmanager
    async def output(self, lease: str, offset: int) -> AsyncGenerator[Output | None, None]:
        """What the job of that lease puts out from there on, in whole lines, until its end; `None`: it is not here."""
        yield None if self._jobs.leased(lease) is None else Output(TYPE, self._lines_of(lease, offset))

    async def _lines_of(self, lease: str, offset: int) -> AsyncGenerator[bytes, None]:
        while True:
            job = self._jobs.leased(lease)
            if job is not None:
                job.grown.clear()
            lines = await self._streams.read(lease, offset)
            if lines:
                offset += len(lines)
                yield lines
            if job is None or job.ending:
                return
            await job.grown.wait()

    async def done(self, worker: Worker, id: str, report: JobReport) -> bool:
        """A job has ended; once this returns, that is on disk. False when it does not have that job (any more)."""
        if report.recycle:
            self._unhealthy(worker.id, "it asked to be replaced")
        job = self._jobs.find(worker.id, id)
        if job is None or job.ending:
            return False
        job.ending = True
        try:
            content, kind = result_of(report, await self._streams.read(job.task.lease or ""))
            body = await self._spool.keep(content)
        except BaseException:
            job.ending = False
            raise
        sight = Sight(
            seen=Seen.ANSWERED,
            status=200 if report.error is None else 500,
            content_type=kind,
            body=body,
            reason="" if report.error is None else cause_of(report.error),
        )
        await self.conclude(job, sight)
        return True

    async def stops(self, worker: Worker) -> tuple[str, ...]:
        """The jobs that it is to give up, as soon as there are any; none after a while without."""
        line, ends_at = self._line(worker.id), self._clock() + HOLD_S
        while True:
            line.told.clear()
            asked = [job for job in self._jobs.of(worker.id) if job.asked_at is not None and not job.told]
            for job in asked:
                job.told = True
            ids = (*(job.task.id for job in asked), *line.stops)
            line.stops.clear()
            left_s = ends_at - self._clock()
            if ids or left_s <= 0 or line.closed or self._polls.leaves(worker.id):
                return ids
            try:
                async with asyncio.timeout(left_s):
                    await line.told.wait()
            except TimeoutError:
                return ()

    # Again and again

    async def step(self) -> None:
        """End what workers have no longer, and hand out what can go now."""
        await self._sweep()
        await self._polls.step()
        if self._next is None and (self._lines or len(self._jobs)):
            self._next = asyncio.get_running_loop().call_later(PERIOD_S, self._tick)

    def _tick(self) -> None:
        self._next = None
        self.loop.wake()

    # Ends

    async def _sweep(self) -> None:
        now, lapses = self._clock(), []
        for job in self._jobs:
            worker = self._fleet.worker(job.worker)
            if job.ending:
                continue
            over = fate(
                Heard(
                    began_at=job.began_at,
                    named_at=job.named_at,
                    worker_at=max(self._line(job.worker).seen_at, job.began_at),
                    asked_at=job.asked_at,
                ),
                gone=worker is None or worker.gone,
                lease_s=self._lease_s(job.task.endpoint, worker),
                execution_timeout_s=job.task.execution_timeout_s,
                now=now,
            )
            if over is not None:
                lapses.append(self._lapse(job, over, worker))
        # Side by side, so that they are recorded together.
        await asyncio.gather(*lapses)
        self._listen(now)

    def _lease_s(self, endpoint: EndpointId, worker: Worker | None) -> float:
        """How long a worker may be silent. One that was started to ping less often is given time for that."""
        known = self._fleet.endpoint(endpoint)
        ping_s = None if worker is None else self._fleet.ping_s(worker)
        return max(0.0 if known is None else known.spec.queue.lease_s, 3.0 * (ping_s or 1))

    async def _lapse(self, job: Taken, over: Fate, worker: Worker | None) -> None:
        log.info("job_lapsed", task=job.task.number, worker=job.worker, why=over.value)
        if over in (Fate.TIMED_OUT, Fate.STOPPED) and not job.told:
            line = self._line(job.worker)
            line.stops.append(job.task.id)
            line.told.set()
        if over is Fate.FORGOTTEN:
            await self.conclude(job, Sight(seen=Seen.UNKNOWN))
            return
        reasons = {
            Fate.ENDED: f"its worker ended: {'' if worker is None else worker.reason}".rstrip(": "),
            Fate.SILENT: "nothing was heard of its worker any more",
            Fate.TIMED_OUT: "total_timeout",
            Fate.STOPPED: "aborted",
        }
        await self.conclude(job, Sight(seen=Seen.FAILED, reason=reasons[over]))

    def _listen(self, now: float) -> None:
        """Have workers replaced that are not heard of or do nothing of use, and forget those that are gone."""
        for worker_id, line in tuple(self._lines.items()):
            worker = self._fleet.worker(worker_id)
            if worker is None or worker.gone:
                if not self._jobs.of(worker_id):
                    del self._lines[worker_id]
                continue
            if worker.state is WorkerState.DRAINING and not self._jobs.of(worker_id):
                # It can go: no gateway has anything to say about it.
                self._changed(worker.endpoint)
            lease_s = self._lease_s(worker.endpoint, worker)
            why = line.ill(slots=worker.slots, ready_at=worker.ready_at or 0.0, lease_s=lease_s, now=now)
            if worker.state is not WorkerState.READY or why is None:
                line.unhealthy = False
            elif not line.unhealthy:
                line.unhealthy = True
                self._unhealthy(worker_id, why)

    async def conclude(self, job: Taken, sight: Sight) -> None:
        """Record how a job ended, once."""
        job.ending = True
        task, asked = replace(job.task, worker=job.worker), job.asked_at is not None
        try:
            verdict = await self._conclusions.record(
                task, sight, began_at=job.began_at, cancelling=asked, lost=_FORGOTTEN, counted=True
            )
        except BaseException:
            # The worker says it again, or the next sweep finds it.
            job.ending = False
            raise
        self._over(job)
        await self._streams.remove(task.lease or "")
        if verdict is not None:
            self._backlog.returned(task.endpoint, task.number, not_before=verdict.not_before)
            if job.asked_at is not None:
                await self._ends.end(task, TaskState.CANCELLED, "cancelled")
        self._changed(task.endpoint)
        self.loop.wake()

    def _over(self, job: Taken) -> None:
        self._jobs.remove(job)
        self._backlog.stopped(job.task.endpoint)
        job.grown.set()

    async def _watch(self) -> None:
        """What became of workers is looked at as soon as it is recorded."""
        with self._fleet.watching() as watch:
            await watch.changed(timeout_s=IDLE_S)
        if len(self._jobs) or self._polls.endpoints:
            for worker, line in self._lines.items():
                if self._polls.leaves(worker):
                    line.told.set()
            self.loop.wake()

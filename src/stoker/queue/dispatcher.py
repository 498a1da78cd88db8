"""Leases tasks within free slots, has the gateway attempt them, and records what came of it.

An attempt outlives this process: another one finds in the records which gateway has it, and goes on waiting for it.
Losing control or a gateway costs a task none of its attempts. Nothing here knows HTTP; `stoker.queue.attempts` does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from stoker.control.fleet import Fleet
from stoker.control.loop import Loop
from stoker.domain.endpoint import EndpointId, Phase
from stoker.domain.errors import Unavailable
from stoker.domain.task import Task, TaskState
from stoker.domain.worker import WorkerId
from stoker.policy.retries import Verdict
from stoker.queue.ahead import Ahead, Turn
from stoker.queue.attempts import Attempts, GatewayGone, Seen, Sight
from stoker.queue.backlog import Backlog
from stoker.queue.cancelling import Tell
from stoker.queue.conclusions import Conclusions
from stoker.queue.ends import Ends
from stoker.queue.polls import is_pulled
from stoker.queue.pulls import Pulls
from stoker.queue.spool import Spool
from stoker.store import tasks as rows
from stoker.store.base import Store
from stoker.store.hot import base as hot
from stoker.store.hot.base import Lease

log = structlog.get_logger(__name__)

# As many as one gateway keeps; the slots of all workers are the bound that counts.
RUNNING_MAX: Final = 10_000
LEASES_MAX: Final = 200
LEASE_S: Final = 60.0
RENEW_PERIOD_S: Final = 15.0
PERIOD_S: Final = 1.0
OLDEST_PERIOD_S: Final = 5.0
WAIT_S: Final = 30.0
RETRY_PAUSE_S: Final = 0.2
# A gateway that is there and does not answer for so long beyond the task's own time has lost it.
SILENCE_S: Final = 600.0


@dataclass(slots=True, eq=False)
class _Running:
    task: Task
    began_at: float
    cancelling: bool
    # Its worker knows that it is to stop, and has until then.
    told: bool = False
    patient_until: float = 0.0
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Dispatcher:
    """`start` it, then run its `loops`. `wake` it when there may be something to hand out."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        backlog: Backlog,
        attempts: Attempts,
        spool: Spool,
        ends: Ends,
        conclusions: Conclusions,
        pulls: Pulls,
        tell: Tell,
        *,
        gateways: Callable[[], tuple[str, ...]],
        slots: Callable[[EndpointId], int],
        changed: Callable[[EndpointId], None],
        clock: Callable[[], float],
    ) -> None:
        """`gateways()` names the sockets of the gateways, the one that takes new attempts first; `slots(endpoint)` is
        how many requests its workers take at once; `changed(endpoint)` is called when its demand is another one.
        """
        self._store = store
        self._fleet = fleet
        self._backlog = backlog
        self._attempts = attempts
        self._spool = spool
        self._ends = ends
        self._gateways = gateways
        self._slots = slots
        self._changed = changed
        self._clock = clock
        self._conclusions = conclusions
        self._pulls = pulls
        self._tell = tell
        self._running: dict[int, _Running] = {}
        # What is known of free slots: `None` is not known, as after a second without a word.
        self._free: dict[EndpointId, int] = {}
        # How often that was said, so that what was known before a refusal is told from what was learnt after it.
        self._said: Counter[EndpointId] = Counter()
        self._ahead: Ahead[_Running] = Ahead()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refreshed_at = 0.0
        self._oldest_looked_at = 0.0
        self.loop = Loop("tasks", self.step, period_s=PERIOD_S)

    def loops(self) -> tuple[Loop, ...]:
        """What is to be done again and again."""
        return (self.loop, Loop("leases of tasks", self.renew, period_s=RENEW_PERIOD_S))

    @property
    def running(self) -> int:
        """How many attempts are under way."""
        return len(self._running)

    async def start(self) -> None:
        """Read what waits, and go on with what runs."""
        now = self._clock()
        queued, later = await self._store.read(lambda tx: rows.backlogs(tx, now=now))
        paused, kept = await self._store.read(lambda tx: (rows.paused(tx), rows.kept(tx)))
        self._backlog.load(queued, later, paused, kept)
        for task in await self._store.read(rows.cancelled_meanwhile):
            await self._ends.end(task, TaskState.CANCELLED, "cancelled")
        for task in await self._store.read(rows.running):
            if is_pulled(task):
                self._pulls.adopt(task)
            else:
                self._adopt(task)

    async def close(self) -> None:
        """Stop; what gateways have goes on."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._attempts.close()
        await self._tell.close()

    # What others say

    def freed(self, endpoint: EndpointId, slots: int) -> None:
        """The gateway has so many slots free for this endpoint."""
        self._said[endpoint] += 1
        self._free[endpoint] = self._ahead.take(endpoint, slots)
        self.loop.wake()

    def added(self, endpoint: EndpointId) -> None:
        """There is more to hand out."""
        self._changed(endpoint)
        self.loop.wake()
        self._pulls.added(endpoint)

    def cancel(self, number: int) -> bool:
        """Abort the attempt of a task that the records say is to be cancelled. False when none is under way here."""
        running = self._running.get(number)
        if running is None:
            return self._pulls.cancel(number)
        if running.cancelling and self._clock() < running.patient_until:
            return True
        running.cancelling = True
        self._ahead.drop(running, running.task.endpoint)
        self._spawn(self._stop(running))
        return True

    async def _stop(self, running: _Running) -> None:
        """Tell the worker, wait as long as it may take, then abort the request."""
        task = running.task
        endpoint = self._fleet.endpoint(task.endpoint)
        worker = None if task.worker is None else self._fleet.worker(WorkerId(task.worker))
        if endpoint is not None and worker is not None and worker.address is not None:
            queue = endpoint.spec.queue
            if queue.cancel_path is not None:
                running.told, running.patient_until = True, self._clock() + queue.cancel_grace_s
                if await self._tell(worker.address, queue.cancel_path, task):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(max(0.0, running.patient_until - self._clock())):
                            await running.over.wait()
                else:
                    running.told = False
                running.patient_until = 0.0
        if not running.over.is_set():
            await self._abort(task)

    async def _abort(self, task: Task) -> None:
        assert task.holder is not None
        assert task.lease is not None
        try:
            await self._attempts.abort(task.holder, task.lease)
        except (GatewayGone, Unavailable) as exc:
            # Whoever waits for the attempt learns the same.
            log.info("abort_not_delivered", task=task.number, error=str(exc))

    # Handing out

    async def step(self) -> None:
        """Lease and hand out what can go now."""
        now = self._clock()
        if now - self._refreshed_at >= PERIOD_S:
            # What a gateway said may have been lost, or be about workers that are gone.
            self._free.clear()
            self._refreshed_at = now
            self._ahead.drop_old(now)
            for endpoint in [each for each in self._said if self._fleet.endpoint(each) is None]:
                del self._said[endpoint]
            for endpoint in self._ahead.endpoints():
                if endpoint in self._backlog.paused:
                    self._ahead.drop_all(endpoint)
            waiting = self._backlog.endpoints()
            if waiting and now - self._oldest_looked_at >= OLDEST_PERIOD_S:
                self._oldest_looked_at = now
                oldest = await self._store.read(lambda tx: {e: rows.oldest_queued(tx, e) for e in waiting})
                for endpoint, at in oldest.items():
                    self._backlog.oldest(endpoint, at)
            for endpoint in waiting:
                self._changed(endpoint)
        await asyncio.gather(*(self._lease(endpoint) for endpoint in self._backlog.endpoints()))

    async def _lease(self, endpoint: EndpointId) -> None:
        now = self._clock()
        wanted = self._wanted(endpoint, self._backlog.ready(endpoint, now), ahead=self._ahead.wanted(endpoint, now))
        if wanted is not None:
            leased = await self._store.write(lambda tx: rows.lease(tx, wanted))
            self._ahead.leased(self._clock() - now)
            self._leased(endpoint, leased)

    def _wanted(self, endpoint: EndpointId, ready: int, *, ahead: int = 0) -> Lease | None:
        now, holders = self._clock(), self._gateways()
        known = self._fleet.endpoint(endpoint)
        if known is None or known.phase is not Phase.ACTIVE or known.spec.queue.pull or not holders:
            return None
        free = self._free.get(endpoint)
        if free is None:
            begun = self._backlog.running(endpoint) - self._ahead.waiting(endpoint)
            free = self._free[endpoint] = self._ahead.take(endpoint, self._slots(endpoint) - begun)
        limit = min(max(0, free) + ahead, ready, RUNNING_MAX - len(self._running), LEASES_MAX)
        return Lease(endpoint, now, limit, holders[0], now + LEASE_S) if limit > 0 else None

    def _leased(self, endpoint: EndpointId, leased: Sequence[Task]) -> None:
        self._backlog.started(endpoint, [task.number for task in leased])
        for task in leased:
            self._begin(task, began=False)
        self._free[endpoint] = self._ahead.take(endpoint, self._free.get(endpoint, 0))

    def claim(self, endpoint: EndpointId, count: int) -> Lease | None:
        """What the transaction that adds so many tasks leases, as slots are free. Call `claimed` after it, always."""
        if endpoint in self._backlog.paused or self._backlog.ready(endpoint, self._clock()):
            return None
        wanted = self._wanted(endpoint, count)
        if wanted is not None:
            self._free[endpoint] -= wanted.limit
        return wanted

    def claimed(self, endpoint: EndpointId, wanted: Lease | None, leased: Sequence[Task]) -> None:
        """What came of a claim: these were leased."""
        if wanted is not None:
            self._free[endpoint] = self._free.get(endpoint, 0) + wanted.limit
            self._leased(endpoint, leased)

    def _adopt(self, task: Task) -> None:
        self._backlog.adopted(task.endpoint)
        self._begin(task, began=True)

    def _begin(self, task: Task, *, began: bool) -> None:
        running = _Running(task, self._clock(), task.cancelling)
        self._running[task.number] = running
        turn = None if began else self._ahead.wait(task.endpoint, running, running.began_at)
        self._spawn(self._run(running, turn))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        spawned = asyncio.create_task(work)
        self._tasks.add(spawned)
        spawned.add_done_callback(self._tasks.discard)

    async def renew(self) -> None:
        """Hold on to what runs; take up again what nobody here holds any more."""
        now = self._clock()
        leases = [(number, running.task.lease or "") for number, running in self._running.items()]
        leases += self._pulls.leases()
        if leases:
            await self._store.write(lambda tx: hot.renew_leases(tx, leases, now + LEASE_S))
        for task in await self._store.read(rows.running):
            if task.number in self._running or (task.lease_until or 0.0) >= now:
                continue
            if self._fleet.endpoint(task.endpoint) is None:
                continue
            if is_pulled(task):
                self._pulls.adopt(task)
                continue
            log.warning("task_taken_up_again", task=task.number)
            self._adopt(task)

    # One attempt

    async def _run(self, running: _Running, turn: Turn[_Running] | None) -> None:
        """`turn` is what it waits for before it begins; `None`: it has begun."""
        task, queued_again, kept = running.task, None, False
        try:
            sight = await self._attempted(running, began=True) if turn is None else await self._in_turn(running, turn)
            if sight.seen is Seen.REFUSED:
                log.debug("task_not_taken", task=task.number, reason=sight.reason)
                await self._give_back(running, begun=sight.kept)
                queued_again = Verdict(state=TaskState.QUEUED)
            else:
                self._ahead.ended(task.endpoint, self._clock())
                queued_again = await self._conclusions.record(
                    running.task, sight, began_at=running.began_at, cancelling=running.cancelling, told=running.told
                )
            kept = sight.kept and sight.seen is not Seen.UNKNOWN
        except Exception as exc:
            # Its lease runs out, and it is taken up again.
            log.error("task_failed_here", task=task.number, error=str(exc), exc_info=True)
        finally:
            running.over.set()
            # Once recorded as queued it may be leased again, and then the entry is that of the next attempt.
            if self._running.get(task.number) is running:
                del self._running[task.number]
            self._backlog.stopped(task.endpoint)
            if queued_again is not None:
                self._backlog.returned(task.endpoint, task.number, not_before=queued_again.not_before)
            self._changed(task.endpoint)
        if queued_again is None:
            self.loop.wake()
        elif running.cancelling:
            await self._ends.end(task, TaskState.CANCELLED, "cancelled")
        if kept:
            await self._acknowledge(task)

    async def _in_turn(self, running: _Running, turn: Turn[_Running]) -> Sight:
        """What it came to, once there was a slot."""
        while await turn.came:
            endpoint = running.task.endpoint
            running.began_at, said = self._clock(), self._said[endpoint]
            sight = await self._attempted(running, began=False)
            if sight.seen is not Seen.REFUSED:
                return sight
            if said == self._said[endpoint]:
                # Somebody else has the slot, and none has come free since.
                self._free[endpoint] = 0
            free = self._free.get(endpoint, 0)
            if sight.kept or running.cancelling or not (free or self._ahead.waiting(endpoint)):
                return sight
            # There is another slot, or, as others wait here as well, will be one soon.
            turn = self._ahead.wait(endpoint, running, turn.since, first=True)
            self._free[endpoint] = self._ahead.take(endpoint, free)
        return Sight(seen=Seen.REFUSED, reason="no slot came free", kept=False)

    async def _give_back(self, running: _Running, *, begun: bool) -> None:
        task = running.task
        given = [(int(task.number), task.lease or "")]
        await self._store.write(lambda tx: rows.give_back(tx, given, begun=begun))

    async def _acknowledge(self, task: Task) -> None:
        assert task.holder is not None
        assert task.lease is not None
        try:
            await self._attempts.acknowledge(task.holder, task.lease)
        except (GatewayGone, Unavailable) as exc:
            # The gateway forgets it by itself after a day.
            log.info("result_not_acknowledged", task=task.number, error=str(exc))

    async def _attempted(self, running: _Running, *, began: bool) -> Sight:
        """What the attempt came to. UNKNOWN: it was lost with its gateway."""
        task = running.task
        assert task.holder is not None
        assert task.lease is not None
        try:
            body = b"" if began else await self._spool.read(task.input)
        except Unavailable as exc:
            return Sight(seen=Seen.FAILED, reason=str(exc))
        ends_at = self._clock() + task.execution_timeout_s + SILENCE_S
        while self._clock() < ends_at:
            if running.cancelling and not began:
                return Sight(seen=Seen.FAILED, reason="aborted")
            try:
                if not began:
                    sight = await self._attempts.begin(task.holder, task, body)
                    body, began = b"", True
                    if running.cancelling:
                        await self._attempts.abort(task.holder, task.lease)
                else:
                    if running.cancelling and self._clock() >= running.patient_until:
                        await self._attempts.abort(task.holder, task.lease)
                    sight = await self._attempts.look(task.holder, task.lease, wait_s=WAIT_S)
            except GatewayGone:
                break
            except Unavailable as exc:
                log.info("gateway_silent", task=task.number, error=str(exc))
                await asyncio.sleep(RETRY_PAUSE_S)
                continue
            if sight.worker is not None:
                running.task = task = replace(task, worker=sight.worker)
            if sight.seen is not Seen.RUNNING:
                return sight
        return Sight(seen=Seen.UNKNOWN)

"""Leases tasks within free slots, has the gateway attempt them, and records what came of it.

An attempt outlives this process: another one finds in the records which gateway has it, and goes on waiting for it.
Losing control or a gateway costs a task none of its attempts. Nothing here knows HTTP; `stoker.queue.attempts` does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from stoker.control.fleet import Fleet
from stoker.control.loop import Loop
from stoker.domain.endpoint import EndpointId, Phase
from stoker.domain.errors import Unavailable
from stoker.domain.task import Outcome, Task, TaskState
from stoker.policy.retries import Verdict, after_attempt, after_loss
from stoker.queue.attempts import Attempts, GatewayGone, Seen, Sight
from stoker.queue.backlog import Backlog
from stoker.queue.ends import Ends
from stoker.queue.recorder import Recorder
from stoker.queue.spool import Spool
from stoker.store import tasks as rows
from stoker.store.base import Store
from stoker.store.hot import base as hot
from stoker.store.hot.base import EndRow, Lease

log = structlog.get_logger(__name__)

# Each holds a connection to its gateway.
RUNNING_MAX: Final = 800
LEASES_MAX: Final = 200
LEASE_S: Final = 60.0
RENEW_PERIOD_S: Final = 15.0
PERIOD_S: Final = 1.0
WAIT_S: Final = 30.0
RETRY_PAUSE_S: Final = 0.2
# A gateway that is there and does not answer for so long beyond the task's own time has lost it.
SILENCE_S: Final = 600.0
_TIMEOUTS: Final = frozenset({"total_timeout", "first_byte_timeout", "idle_timeout"})


@dataclass(slots=True, eq=False)
class _Running:
    task: Task
    began_at: float
    cancelling: bool


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
        *,
        gateways: Callable[[], tuple[str, ...]],
        slots: Callable[[EndpointId], int],
        changed: Callable[[EndpointId], None],
        clock: Callable[[], float],
        chance: Callable[[], float] = random.random,
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
        self._chance = chance
        self._recorder = Recorder(store)
        self._running: dict[int, _Running] = {}
        # What is known of free slots: `None` is not known, as after a second without a word.
        self._free: dict[EndpointId, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._refreshed_at = 0.0
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
        self._backlog.load(queued, later, await self._store.read(rows.paused))
        for task in await self._store.read(rows.cancelled_meanwhile):
            await self._ends.end(task, TaskState.CANCELLED, "cancelled")
        for task in await self._store.read(rows.running):
            self._adopt(task)

    async def close(self) -> None:
        """Stop; what gateways have goes on."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._attempts.close()

    # What others say

    def freed(self, endpoint: EndpointId, slots: int) -> None:
        """The gateway has so many slots free for this endpoint."""
        self._free[endpoint] = slots
        self.loop.wake()

    def added(self, endpoint: EndpointId) -> None:
        """There is more to hand out."""
        self._changed(endpoint)
        self.loop.wake()

    def cancel(self, number: int) -> bool:
        """Abort the attempt of a task that the records say is to be cancelled. False when none is under way here."""
        running = self._running.get(number)
        if running is None:
            return False
        running.cancelling = True
        self._spawn(self._abort(running.task))
        return True

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
            for endpoint in self._backlog.endpoints():
                self._changed(endpoint)
        await asyncio.gather(*(self._lease(endpoint) for endpoint in self._backlog.endpoints()))

    async def _lease(self, endpoint: EndpointId) -> None:
        now, holders = self._clock(), self._gateways()
        known = self._fleet.endpoint(endpoint)
        if known is None or known.phase is not Phase.ACTIVE or not holders:
            return
        free = self._free.get(endpoint)
        if free is None:
            free = self._free[endpoint] = self._slots(endpoint) - self._backlog.running(endpoint)
        limit = min(free, self._backlog.ready(endpoint, now), RUNNING_MAX - len(self._running), LEASES_MAX)
        if limit <= 0:
            return
        self._free[endpoint] = free - limit
        wanted = Lease(endpoint, now, limit, holders[0], now + LEASE_S)
        leased = await self._store.write(lambda tx: rows.lease(tx, wanted))
        self._backlog.started(endpoint, [task.number for task in leased])
        for task in leased:
            self._begin(task, began=False)

    def _adopt(self, task: Task) -> None:
        self._backlog.adopted(task.endpoint)
        self._begin(task, began=True)

    def _begin(self, task: Task, *, began: bool) -> None:
        running = _Running(task, self._clock(), task.cancelling)
        self._running[task.number] = running
        self._spawn(self._run(running, began=began))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        spawned = asyncio.create_task(work)
        self._tasks.add(spawned)
        spawned.add_done_callback(self._tasks.discard)

    async def renew(self) -> None:
        """Hold on to what runs; take up again what nobody here holds any more."""
        now = self._clock()
        leases = [(number, running.task.lease or "") for number, running in self._running.items()]
        if leases:
            await self._store.write(lambda tx: hot.renew_leases(tx, leases, now + LEASE_S))
        endpoints = [endpoint.id for endpoint in self._fleet.endpoints()]
        for task in await self._store.read(lambda tx: rows.running(tx, endpoints)):
            if task.number not in self._running and (task.lease_until or 0.0) < now:
                log.warning("task_taken_up_again", task=task.number)
                self._adopt(task)

    # One attempt

    async def _run(self, running: _Running, *, began: bool) -> None:
        task = running.task
        queued_again: Verdict | None = None
        try:
            sight = await self._attempted(running, began=began)
            if sight.seen is Seen.REFUSED:
                log.debug("task_not_taken", task=task.number, reason=sight.reason)
                await self._give_back(running, begun=sight.kept)
                queued_again = Verdict(state=TaskState.QUEUED)
            else:
                queued_again = await self._record(running, sight)
            if sight.kept and sight.seen is not Seen.UNKNOWN:
                await self._acknowledge(task)
        except Exception as exc:
            # Its lease runs out, and it is taken up again.
            log.error("task_failed_here", task=task.number, error=str(exc), exc_info=True)
        finally:
            del self._running[task.number]
            self._backlog.stopped(task.endpoint)
            if queued_again is not None:
                self._backlog.returned(task.endpoint, task.number, not_before=queued_again.not_before)
            self._changed(task.endpoint)
        if queued_again is None:
            self.loop.wake()
        elif running.cancelling:
            await self._ends.end(task, TaskState.CANCELLED, "cancelled")

    async def _give_back(self, running: _Running, *, begun: bool) -> None:
        task = running.task
        self._free[task.endpoint] = 0
        assert task.lease is not None
        given = [(int(task.number), task.lease)]
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
                    if running.cancelling:
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

    # Recording

    async def _record(self, running: _Running, sight: Sight) -> Verdict | None:
        """The verdict, when it is that the task is queued again."""
        task, now = running.task, self._clock()
        outcome = _outcome_of(sight)
        attempts = task.attempts + (outcome is not None)
        if outcome is None:
            verdict = after_loss(
                attempts=task.attempts, deliveries=task.deliveries, cancelling=running.cancelling, now=now
            )
        else:
            verdict = after_attempt(
                task.retries,
                outcome,
                status=sight.status,
                reason=sight.reason,
                attempts=attempts,
                cancelling=running.cancelling,
                now=now,
                chance=self._chance(),
                retry_after_s=sight.retry_after_s,
            )
        ended = replace(
            task,
            state=verdict.state,
            attempts=attempts,
            status=sight.status,
            reason=verdict.reason[:1_000],
            not_before=verdict.not_before or task.not_before,
            ended_at=now if verdict.state.final else None,
            result=sight.body if verdict.state.final else None,
            result_type=sight.content_type if verdict.state.final else None,
        )
        recorded = await self._recorder.record(
            _row_of(ended, outcome, began_at=running.began_at, now=now),
            self._ends.delivery(ended) if verdict.state.final else None,
        )
        if sight.body is not None and sight.body.file is not None and not (recorded and verdict.state.final):
            await self._spool.remove([sight.body.file])
        if recorded and verdict.state.final:
            self._ends.announce(ended)
        return verdict if recorded and verdict.state is TaskState.QUEUED else None


def _outcome_of(sight: Sight) -> Outcome | None:
    """`None` for what was no attempt: it was lost with its gateway."""
    if sight.seen is Seen.ANSWERED:
        return Outcome.ANSWERED
    if sight.seen is not Seen.FAILED or sight.reason == "gateway_stopped":
        return None
    if sight.reason == "aborted":
        return Outcome.ABORTED
    return Outcome.TIMED_OUT if sight.reason in _TIMEOUTS else Outcome.BROKEN


def _row_of(ended: Task, outcome: Outcome | None, *, began_at: float, now: float) -> EndRow:
    assert ended.lease is not None
    result = ended.result
    return EndRow(
        number=ended.number,
        lease=ended.lease,
        state=ended.state.value,
        not_before=ended.not_before,
        ended_at=ended.ended_at,
        forget_at=None if ended.ended_at is None else ended.ended_at + ended.retention_s,
        attempts=ended.attempts,
        status=ended.status,
        worker=ended.worker,
        reason=ended.reason,
        result_type=ended.result_type,
        result_size=None if result is None else result.size,
        result_file=None if result is None else result.file,
        result=None if result is None else result.inline,
        outcome=None if outcome is None else outcome.value,
        began_at=began_at,
        at=now,
    )

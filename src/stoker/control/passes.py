"""One pass over one endpoint: what was seen, what is wanted, what to do next - as one change and its effects.

Used by `stoker.control.reconciler` alone, which holds the endpoint's lock, commits the change and carries out the
effects. Nothing here awaits, so that all facts of a pass are of one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from stoker.control.fleet import Change, EventDraft
from stoker.domain.endpoint import Endpoint, Override, Phase
from stoker.domain.hardware import HardwareRequest, Placement
from stoker.domain.operation import Decision, Level, Operation, OperationState
from stoker.domain.worker import Address, Worker, WorkerId, WorkerState
from stoker.policy.lifecycle import STABLE_S, Sight, advance, count_failures, failed_start
from stoker.policy.placement import Unplaceable
from stoker.policy.rollout import Drain, Start, Stop, plan, retry_at
from stoker.policy.scaling import Signals, decide
from stoker.policy.state import outcome_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a pass knows besides the endpoint and its workers. `tails` has the last output of workers that ended.

    `closing`: all workers are to go; `hurried`: without waiting for their requests.
    """

    now: float
    sights: Mapping[WorkerId, Sight]
    settled: Collection[WorkerId]
    ready: Collection[WorkerId]
    unhealthy: Mapping[WorkerId, str]
    refused: Mapping[WorkerId, str]
    drained: Collection[WorkerId]
    loads: Mapping[WorkerId, int]
    signals: Signals | None
    tails: Mapping[WorkerId, str]
    closing: bool
    hurried: bool


# (request, workers to leave out of the account) -> a placement, reserved, or why there is none.
Place = Callable[[WorkerId, HardwareRequest, frozenset[WorkerId]], Placement | Unplaceable]


class Pass:
    """Steps in the order of `run`. `change` and `stops` are its outcome."""

    def __init__(
        self,
        endpoint: Endpoint,
        workers: Sequence[Worker],
        operations: Sequence[Operation],
        facts: Facts,
        *,
        place: Place,
        new_id: Callable[[], str],
    ) -> None:
        self.change = Change(endpoint=endpoint)
        self.stops: list[WorkerId] = []
        self._before = endpoint
        self._workers = {worker.id: worker for worker in workers if not worker.gone}
        self._operations = operations
        self._facts = facts
        self._place = place
        self._new_id = new_id
        self._new: dict[WorkerId, Worker] = {}

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint as the pass has changed it so far."""
        return self.change.endpoint

    @property
    def empty(self) -> bool:
        """Did nothing change?"""
        change = self.change
        return change.endpoint is self._before and not (
            change.removed or change.workers or change.new_workers or change.operations or change.events
        )

    def run(self) -> None:
        """The whole pass."""
        self._observe()
        if self.endpoint.phase is Phase.ACTIVE and not self._facts.closing:
            self._scale()
        self._apply()
        self._place_pending()
        self.change.new_workers = list(self._new.values())
        self._conclude()

    def _set(self, worker: Worker) -> None:
        if worker.id in self._new:
            self._new[worker.id] = worker
        else:
            self.change.workers[worker.id] = worker
            self._workers[worker.id] = worker

    def _event(self, kind: str, message: str, *, worker: WorkerId | None = None, level: Level = Level.INFO) -> None:
        self.change.events.append(
            EventDraft(at=self._facts.now, kind=kind, message=message, worker=worker, level=level)
        )

    # What was seen

    def _observe(self) -> None:
        reasons: list[str] = []
        for before in tuple(self._workers.values()):
            after = self._seen(before)
            if after is before:
                continue
            self._set(after)
            self._tell(before, after)
            if failed_start(before, after, revision=self._before.revision):
                reasons.append(after.reason)
            if after.state is WorkerState.STOPPING:
                self.stops.append(after.id)
        now = self._facts.now
        stable = any(
            w.revision == self._before.revision and w.ready_at is not None and now - w.ready_at >= STABLE_S
            for w in self._workers.values()
            if w.state is WorkerState.READY
        )
        failures = count_failures(self._before.failures, reasons=reasons, stable=stable, now=now)
        if failures is not self._before.failures:
            self.change.endpoint = replace(self.endpoint, failures=failures)

    def _seen(self, worker: Worker) -> Worker:
        facts = self._facts
        if worker.state is WorkerState.STARTING and worker.id in facts.refused:
            return replace(worker, state=WorkerState.FAILED, ended_at=facts.now, reason=facts.refused[worker.id])
        after = advance(
            worker,
            facts.sights.get(worker.id),
            probe=self._before.probe,
            ready=worker.id in facts.ready,
            settled=worker.id in facts.settled,
            now=facts.now,
        )
        if after.state is WorkerState.FAILED and after.id in facts.tails and facts.tails[after.id]:
            after = replace(after, reason=f"{after.reason}; its last output:\n{facts.tails[after.id]}")
        if after.state is WorkerState.READY and worker.id in facts.unhealthy:
            after = self._draining(after, f"unhealthy: {facts.unhealthy[worker.id]}")
        return after

    def _draining(self, worker: Worker, reason: str) -> Worker:
        limit_s = 0.0 if self._facts.hurried else self.endpoint.spec.rollout.drain_timeout_s
        deadline = self._facts.now + limit_s
        return replace(worker, state=WorkerState.DRAINING, reason=reason, drain_deadline=deadline)

    def _tell(self, before: Worker, after: Worker) -> None:
        name = f"worker {after.number}"
        match after.state:
            case WorkerState.READY:
                took_s = (after.ready_at or 0.0) - (after.started_at or 0.0)
                self._event("worker_ready", f"{name} is ready after {took_s:.2f} s", worker=after.id)
            case WorkerState.FAILED:
                self._event("worker_failed", f"{name} failed: {after.reason}", worker=after.id, level=Level.ERROR)
            case WorkerState.STOPPED:
                self._event("worker_stopped", f"{name} has stopped", worker=after.id)
            case WorkerState.DRAINING | WorkerState.STOPPING:
                level = Level.WARNING
                self._event(f"worker_{after.state}", f"{name}: {after.reason}", worker=after.id, level=level)

    # What is wanted

    def _scale(self) -> None:
        endpoint, now = self.endpoint, self._facts.now
        override: Override | None = endpoint.override
        if override is not None and not override.holds(now):
            override = None
        decision: Decision = decide(
            endpoint.spec.scaling,
            endpoint.spec.pool.bounds,
            self._facts.signals,
            slots=endpoint.slots,
            current=endpoint.desired,
            now=now,
            override=override,
        )
        if override is not endpoint.override:
            self._event("override_ended", "the number of workers set by hand no longer holds")
            self.change.endpoint = endpoint = replace(endpoint, override=override)
        if decision.workers == endpoint.desired:
            return
        self.change.decision = decision
        self.change.endpoint = replace(endpoint, desired=decision.workers)
        self._event("scaled", f"{decision.current} -> {decision.workers} workers: {decision.reason}")

    # What to do

    def _apply(self) -> None:
        facts = self._facts
        actions = plan(
            self.endpoint,
            tuple(w for w in self._workers.values() if not w.gone),
            loads=facts.loads,
            drained=facts.drained,
            now=facts.now,
            workers_wanted=0 if facts.closing else None,
            yield_hardware=self._would_fit_without_old(),
        )
        for action in actions:
            match action:
                case Start(count):
                    self._start(count)
                case Drain(worker, reason):
                    self._set(self._draining(self._workers[worker], reason))
                    number = self._workers[worker].number
                    self._event("worker_draining", f"worker {number} is draining: {reason}", worker=worker)
                case Stop(worker, reason):
                    self._stop(self._workers[worker], reason)

    def _start(self, count: int) -> None:
        for _ in range(count):
            worker = Worker(
                id=WorkerId(self._new_id()),
                number=0,
                endpoint=self.endpoint.id,
                revision=self.endpoint.revision,
                provider=self.endpoint.spec.pool.provider,
                state=WorkerState.PENDING,
                slots=self.endpoint.slots,
                created_at=self._facts.now,
            )
            self._new[worker.id] = worker

    def _stop(self, worker: Worker, reason: str) -> None:
        if worker.state is WorkerState.PENDING:
            now = self._facts.now
            # It was never anywhere: there is nothing to stop and no port to keep.
            self._set(replace(worker, state=WorkerState.STOPPED, reason=reason, ended_at=now, released_at=now))
            return
        self._set(replace(worker, state=WorkerState.STOPPING, reason=reason))
        self.stops.append(worker.id)
        self._event("worker_stopping", f"worker {worker.number} is stopping: {reason}", worker=worker.id)

    def _would_fit_without_old(self) -> bool:
        endpoint = self.endpoint
        blocked = [w for w in self._workers.values() if w.state is WorkerState.PENDING and w.reason]
        if not blocked:
            return False
        old = frozenset(
            w.id for w in self._workers.values() if w.state is WorkerState.READY and w.revision != endpoint.revision
        )
        leaving = any(w.state in (WorkerState.DRAINING, WorkerState.STOPPING) for w in self._workers.values())
        if not old or leaving:
            return False
        # The id names no worker, so the reservation made by this question is dropped by the same commit as all others.
        return isinstance(self._place(blocked[0].id, endpoint.spec.pool.hardware, old), Placement)

    def _place_pending(self) -> None:
        pending = [w for w in self._workers.values() if w.state is WorkerState.PENDING]
        for worker in (*pending, *self._new.values()):
            found = self._place(worker.id, self.endpoint.spec.pool.hardware, frozenset())
            if isinstance(found, Unplaceable):
                if worker.reason != found.reason:
                    self._set(replace(worker, reason=found.reason))
                    self._event("worker_pending", f"no room: {found.reason}", worker=worker.id, level=Level.WARNING)
                continue
            address = None if found.port is None else Address(host="127.0.0.1", port=found.port)
            self._set(
                replace(
                    worker,
                    state=WorkerState.STARTING,
                    placement=found,
                    address=address,
                    started_at=self._facts.now,
                    reason="",
                )
            )
            self._event("worker_starting", f"a worker starts on {found.host}", worker=worker.id)

    # What is done

    def _conclude(self) -> None:
        workers = (*self._workers.values(), *self._new.values())
        for operation in self._operations:
            state, message = outcome_of(operation, self.endpoint, workers, now=self._facts.now)
            if state is OperationState.PENDING:
                continue
            ended = replace(operation, state=state, message=message, ended_at=self._facts.now)
            self.change.operations.append(ended)
            level = Level.INFO if state is OperationState.SUCCESS else Level.ERROR
            self._event(f"{operation.kind}_{state}", f"{operation.kind}: {message}", level=level)
        if self.endpoint.phase is Phase.DELETING and all(w.gone for w in workers):
            self.change.removed = True

    def next_at(self) -> float | None:
        """When the endpoint must be looked at again though nothing happens; `None` when never."""
        endpoint, now = self.endpoint, self._facts.now
        ended = {operation.id for operation in self.change.operations}
        times = [operation.deadline_at for operation in self._operations if operation.id not in ended]
        earliest = retry_at(endpoint.failures)
        if earliest is not None:
            times.append(earliest)
        if endpoint.override is not None and endpoint.override.until is not None:
            times.append(endpoint.override.until)
        for worker in (*self._workers.values(), *self._new.values()):
            if worker.state is WorkerState.DRAINING and worker.drain_deadline is not None:
                times.append(worker.drain_deadline)
            if worker.state is WorkerState.STARTING and worker.started_at is not None:
                times.append(worker.started_at + endpoint.probe.start_timeout_s)
            if worker.state is WorkerState.READY and endpoint.failures.count and worker.ready_at is not None:
                times.append(worker.ready_at + STABLE_S)
            if worker.state is WorkerState.DRAINING and (worker.drain_deadline or 0.0) <= now:
                # Drained only now, with no time to give: the next pass stops it.
                return now
        later = [time for time in times if time > now]
        return min(later, default=None)

"""One pass over one endpoint: what was seen, what is wanted, what to do next - as one change and its effects.

Used by `stoker.control.reconciler` alone, which holds the endpoint's lock, commits the change and carries out the
effects. Nothing here awaits, so that all facts of a pass are of one moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stoker.control.change import Change, EventDraft
from stoker.control.facts import Facts, Ground
from stoker.control.sightings import draining, seen
from stoker.control.telling import told
from stoker.domain.endpoint import Endpoint, Override, Phase, PlacementStrategy, PoolSpec, Strategy
from stoker.domain.hardware import Placement
from stoker.domain.operation import Decision, Level, Operation, OperationState
from stoker.domain.worker import ACTIVE, Address, Worker, WorkerId, WorkerState
from stoker.policy import eviction
from stoker.policy.backoff import counted, resting
from stoker.policy.deadlines import next_look
from stoker.policy.eviction import Idle
from stoker.policy.lifecycle import STABLE_S, counts_from, failed_start
from stoker.policy.placement import Unplaceable
from stoker.policy.pools import pools_for
from stoker.policy.rollout import Chill, Drain, Start, Stop, Warm, plan
from stoker.policy.state import outcome_of


class Pass:
    """Steps in the order of `run`. `change`, `stops`, `chills` and `evictions` are its outcome."""

    def __init__(
        self,
        endpoint: Endpoint,
        workers: Sequence[Worker],
        operations: Sequence[Operation],
        facts: Facts,
        *,
        ground: Ground,
        new_id: Callable[[], str],
    ) -> None:
        self.change = Change(endpoint=endpoint)
        self.stops: list[WorkerId] = []
        self.chills: list[WorkerId] = []
        self.evictions: list[Idle] = []
        # Of the first pending worker that nothing has room for.
        self.blocked: Worker | None = None
        self.makes_way = tuple(facts.makes_way)
        self._before = endpoint
        self._workers = {worker.id: worker for worker in workers if not worker.gone}
        self._operations = operations
        self._facts = facts
        self._ground = ground
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
            change.removed
            or change.workers
            or change.new_workers
            or change.operations
            or change.events
            or change.decisions
        )

    def run(self) -> None:
        """The whole pass."""
        self._observe()
        if self.endpoint.phase is Phase.ACTIVE and not self._facts.closing:
            self._scale()
            self._make_way()
        self._apply()
        self._place_pending()
        if self._room_wanted:
            self._make_room()
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
        reasons: dict[str, list[str]] = {}
        for before in tuple(self._workers.values()):
            after = seen(before, self._facts, self.endpoint.spec.rollout)
            if after is before:
                continue
            self._set(after)
            if (event := told(before, after, at=self._facts.now)) is not None:
                self.change.events.append(event)
            if self._before.runs(before.pool, before.revision) and failed_start(before, after):
                reasons.setdefault(after.pool, []).append(after.reason)
            if after.state is WorkerState.STOPPING:
                self.stops.append(after.id)
        now = self._facts.now
        stable = {
            w.pool
            for w in self._workers.values()
            if w.state is WorkerState.READY
            and self._before.runs(w.pool, w.revision)
            and w.ready_at is not None
            and now - w.ready_at >= STABLE_S
        }
        pools = [pool.name for pool in self._before.spec.pools]
        failures = counted(self._before.failures, pools=pools, reasons=reasons, stable=stable, now=now)
        if failures is not self._before.failures:
            self.change.endpoint = replace(self.endpoint, failures=failures)

    # What is wanted

    def _scale(self) -> None:
        endpoint, now = self.endpoint, self._facts.now
        override: Override | None = endpoint.override
        if override is not None and not override.holds(now):
            override = None
        decision = self._facts.decision
        if override is not endpoint.override:
            self._event("override_ended", "the number of workers set by hand no longer holds")
            self.change.endpoint = endpoint = replace(endpoint, override=override)
        if self._facts.recorded:
            return
        self.change.decisions.append(decision)
        wanted = decision.workers
        if decision.advisory:
            # Bounds are no advice.
            wanted = min(max(endpoint.desired, endpoint.spec.bounds.min), endpoint.spec.bounds.max)
        if wanted != endpoint.desired:
            self.change.endpoint = replace(endpoint, desired=wanted)
            self._event("scaled", f"{decision.current} -> {wanted} workers: {decision.reason}")

    def _make_way(self) -> None:
        """Give up idle workers that another endpoint needs the room of, unless that is not so any more."""
        facts, endpoint = self._facts, self.endpoint
        if not facts.makes_way or facts.residence_s is None:
            return
        live = [w for w in self._workers.values() if not w.gone]
        found = eviction.spare(endpoint, live, facts.signals, facts.loads, now=facts.now, residence_s=facts.residence_s)
        for idle in found:
            if idle.worker not in facts.makes_way:
                continue
            reason = facts.makes_way[idle.worker]
            self._set(draining(self._workers[idle.worker], reason, facts, endpoint.spec.rollout))
            self._event("worker_draining", f"worker {idle.number} is draining: {reason}", worker=idle.worker)
            wanted = max(endpoint.spec.bounds.min, endpoint.desired - 1)
            self._decide(f"worker {idle.number}, idle for {idle.idle_s:.0f} s, {reason}", wanted)
            self.change.endpoint = endpoint = replace(endpoint, desired=wanted)

    def _decide(self, reason: str, workers: int) -> None:
        current = self.endpoint.desired
        self.change.decisions.append(Decision(at=self._facts.now, current=current, workers=workers, reason=reason))

    # What to do

    def _apply(self) -> None:
        facts = self._facts
        yields = self._would_fit_without_old()
        actions = plan(
            self.endpoint,
            tuple(w for w in self._workers.values() if not w.gone),
            loads=facts.loads,
            drained=facts.drained,
            now=facts.now,
            closing=facts.closing,
            may_start=facts.hold is None,
            yield_hardware=yields,
            held=0 if facts.decision.advisory else facts.decision.held,
        )
        first = [str(self._workers[a.worker].number) for a in actions if yields and isinstance(a, Drain)]
        if first:
            beside = f"nothing has room for revision {self.endpoint.revision} beside the old one"
            self._decide(f"{beside}: worker {', '.join(first)} is drained first", self.endpoint.desired)
        for action in actions:
            match action:
                case Start(pool, count):
                    self._start(pool, count)
                case Warm(worker):
                    self._warm(self._workers[worker])
                case Drain(worker, reason, chill):
                    leaving = draining(self._workers[worker], reason, facts, self.endpoint.spec.rollout)
                    self._set(replace(leaving, chilling=chill))
                    number = self._workers[worker].number
                    self._event("worker_draining", f"worker {number} is draining: {reason}", worker=worker)
                case Chill(worker):
                    self._chill(self._workers[worker])
                case Stop(worker, reason):
                    self._stop(self._workers[worker], reason)

    def _start(self, pool: str, count: int) -> None:
        spec = self.endpoint.spec.pool(pool)
        assert spec is not None
        for _ in range(count):
            worker = Worker(
                id=WorkerId(self._new_id()),
                number=0,
                endpoint=self.endpoint.id,
                pool=pool,
                revision=self.endpoint.revision,
                provider=spec.provider,
                state=WorkerState.PENDING,
                slots=self.endpoint.slots_of(pool),
                created_at=self._facts.now,
            )
            self._new[worker.id] = worker

    def _warm(self, worker: Worker) -> None:
        """Start a cold worker again: the provider takes up one that it has."""
        found = self._ground.regain(worker)
        if isinstance(found, Unplaceable):
            if worker.reason != found.reason:
                self._set(replace(worker, reason=found.reason))
                self._event("worker_cold", f"stays cold: {found.reason}", worker=worker.id, level=Level.WARNING)
            return
        self._set(
            replace(
                worker,
                state=WorkerState.STARTING,
                placement=found,
                started_at=self._facts.now,
                acknowledged_at=None,
                ready_at=None,
                from_cold=True,
                reason="",
            )
        )
        self._event("worker_warming", f"worker {worker.number} is made warm", worker=worker.id)

    def _chill(self, worker: Worker) -> None:
        held = worker.placement
        if held is not None:
            held = replace(held, freed=self._facts.frees.get(worker.id, ()))
        self._set(
            replace(
                worker,
                state=WorkerState.COLD,
                chilling=False,
                drain_deadline=None,
                ready_at=None,
                reason="",
                placement=held,
            )
        )
        self.chills.append(worker.id)
        self._event("worker_cold", f"worker {worker.number} is kept cold", worker=worker.id)

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
        if not blocked or endpoint.spec.rollout.strategy is not Strategy.AUTO:
            return False
        ready = [w for w in self._workers.values() if w.state is WorkerState.READY]
        old = frozenset(w.id for w in ready if not endpoint.runs(w.pool, w.revision))
        leaving = any(w.state in (WorkerState.DRAINING, WorkerState.STOPPING) for w in self._workers.values())
        pool = endpoint.spec.pool(blocked[0].pool)
        if not old or leaving or pool is None:
            return False
        # The id names no worker, so the reservation made by this question is dropped by the same commit as all others.
        return isinstance(self._ground.place(blocked[0].id, pool, without=old), Placement)

    def _place_pending(self) -> None:
        pending = [w for w in self._workers.values() if w.state is WorkerState.PENDING]
        for worker in (*pending, *self._new.values()):
            reasons: list[str] = []
            for pool in self._pools_for(worker):
                found = self._ground.place(worker.id, pool, avoid=self._avoided(pool))
                if isinstance(found, Placement):
                    self._placed(worker, pool, found)
                    break
                reasons.append(found.reason if len(self.endpoint.spec.pools) == 1 else f"{pool.name}: {found.reason}")
            else:
                self.blocked = self.blocked or worker
                reason = "; ".join(reasons)
                if worker.reason != reason:
                    self._set(replace(worker, reason=reason))
                    self._event("worker_pending", f"no room: {reason}", worker=worker.id, level=Level.WARNING)

    def _avoided(self, pool: PoolSpec) -> Mapping[str, int] | None:
        """Where workers of a pool are that is to be spread, and how many. A pool that is on trial is."""
        signals = self._facts.signals
        trial = signals is not None and signals.trial is not None
        if pool.placement is not PlacementStrategy.SPREAD and not trial:
            return None
        here = (w for w in (*self._workers.values(), *self._new.values()) if w.pool == pool.name and not w.gone)
        return Counter(w.placement.host for w in here if w.placement is not None)

    def _pools_for(self, worker: Worker) -> list[PoolSpec]:
        active = [w for w in (*self._workers.values(), *self._new.values()) if w.state in ACTIVE]
        rests = resting(self.endpoint.failures, now=self._facts.now)
        return pools_for(worker, self.endpoint.spec.pools, Counter(w.pool for w in active), rests=rests)

    def _placed(self, worker: Worker, pool: PoolSpec, found: Placement) -> None:
        address = None if found.port is None else Address(host="127.0.0.1", port=found.port)
        self._set(
            replace(
                worker,
                state=WorkerState.STARTING,
                pool=pool.name,
                provider=pool.provider,
                slots=self.endpoint.slots_of(pool.name),
                placement=found,
                address=address,
                started_at=self._facts.now,
                reason="",
            )
        )
        self._event("worker_starting", f"a worker starts on {found.host}", worker=worker.id)

    @property
    def _room_wanted(self) -> bool:
        """Do requests wait for a worker that nothing has room for, and may that be changed?"""
        signals, may = self._facts.signals, self._facts.residence_s is not None
        return may and self.blocked is not None and signals is not None and signals.held_up > 0

    def _make_room(self) -> None:
        """Idle workers of other endpoints are to go."""
        assert self.blocked is not None
        assert self._facts.signals is not None
        waiting = self._facts.signals.held_up
        for pool in self._pools_for(self.blocked):
            chosen = self._ground.make_room(pool)
            if not chosen:
                continue
            self.evictions += chosen
            who = ", ".join(f"worker {idle.number} of {idle.slug}" for idle in chosen)
            self._decide(f"{waiting} requests wait and nothing fits: {who} is to make room", self.endpoint.desired)
            self._event("room_wanted", f"no room for a worker: {who} is to make some", level=Level.WARNING)
            return

    # What is done

    def _conclude(self) -> None:
        workers = (*self._workers.values(), *self._new.values())
        for operation in self._operations:
            out = outcome_of(operation, self.endpoint, workers, now=self._facts.now, hold=self._facts.hold)
            if out.state is OperationState.PENDING:
                continue
            self.change.operations.append(
                replace(operation, state=out.state, message=out.message, cause=out.cause, ended_at=self._facts.now)
            )
            level = Level.INFO if out.state is OperationState.SUCCESS else Level.ERROR
            self._event(f"{operation.kind}_{out.state}", f"{operation.kind}: {out.message}", level=level)
        if self.endpoint.phase is Phase.DELETING and all(w.gone for w in workers):
            self.change.removed = True

    def _start_timeout_s(self, worker: Worker) -> float:
        """After its start, what is fetched for it meanwhile included."""
        known = self._facts.probes.get(worker.id) or self.endpoint.as_revision().probes_of(worker.pool)
        assert known is not None
        since = counts_from(worker, self._facts.sights.get(worker.id), now=self._facts.now)
        return known.start_timeout_s + (0.0 if since is None else since - (worker.started_at or 0.0))

    def next_at(self) -> float | None:
        """When the endpoint must be looked at again though nothing happens; `None` when never."""
        ended = {operation.id for operation in self.change.operations}
        return next_look(
            self.endpoint,
            (*self._workers.values(), *self._new.values()),
            [operation for operation in self._operations if operation.id not in ended],
            start_timeout_s=self._start_timeout_s,
            room_wanted=self._room_wanted,
            now=self._facts.now,
        )

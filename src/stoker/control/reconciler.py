"""Makes it so: runs passes over endpoints that something happened to, commits them and carries out their effects.

Everything that happens anywhere ends in `wake(endpoint)`. Passes of different endpoints run side by side, those of one
endpoint one after the other; a wake during a pass makes another pass after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import structlog

from stoker.control.change import Change
from stoker.control.effects import Effects
from stoker.control.facts import Facts, Ground
from stoker.control.fleet import Fleet
from stoker.control.managed import Managed, Providers
from stoker.control.observer import Snapshot
from stoker.control.passes import Pass
from stoker.control.prober import Prober
from stoker.control.provisions import Provisions
from stoker.control.scarcity import Scarcity
from stoker.control.signals import Gateway
from stoker.control.tails import tails_of
from stoker.domain.endpoint import Endpoint, EndpointId, PoolSpec
from stoker.domain.hardware import Placement
from stoker.domain.worker import GONE, Observed, Worker, WorkerId, WorkerState
from stoker.policy.lifecycle import Sight
from stoker.policy.placement import Unplaceable, place, regain

log = structlog.get_logger(__name__)

PASSES_AT_ONCE = 16
STOP_AGAIN_S = 1.0
# For workers that nobody remembers.
UNWANTED_GRACE_S = 5.0
# What a provider lists of workers in these states is as it should be.
_KEPT = frozenset(WorkerState) - GONE - {WorkerState.STOPPING}


class Reconciler:
    """See the module. `start` before the first wake."""

    def __init__(
        self,
        fleet: Fleet,
        providers: Providers,
        gateway: Gateway,
        *,
        provisions: Provisions,
        prober: Prober,
        scarcity: Scarcity,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._provisions = provisions
        self._effects = Effects(fleet, providers, provisions, prober)
        self._fleet = fleet
        self._providers = providers
        self._gateway = gateway
        self._scarcity = scarcity
        self._clock = clock
        self._new_id = new_id
        self._ready: set[WorkerId] = set()
        self._unhealthy: dict[WorkerId, str] = {}
        self._unready: dict[WorkerId, str] = {}
        self._refused: dict[WorkerId, str] = {}
        # Provider, whether it ran, and when: of the last stop sent because of a list.
        self._stops_sent: dict[WorkerId, tuple[str, bool, float]] = {}
        self._dirty: dict[EndpointId, None] = {}
        self._running: set[EndpointId] = set()
        self._some_dirty = asyncio.Event()
        self._timers: dict[EndpointId, asyncio.TimerHandle] = {}
        self.closing = False
        self._hurried = False

    # What happens elsewhere

    def wake(self, endpoint: EndpointId) -> None:
        """Something happened to this endpoint: look at it now."""
        self._dirty[endpoint] = None
        self._some_dirty.set()

    def wake_all(self) -> None:
        """Look at every endpoint."""
        for endpoint in self._fleet.endpoints():
            self.wake(endpoint.id)

    @property
    def idle(self) -> bool:
        """Is no pass due or under way?"""
        return not self._dirty and not self._running

    def _wake_worker(self, worker: WorkerId) -> None:
        known = self._fleet.worker(worker)
        if known is not None:
            self.wake(known.endpoint)

    def worker_ready(self, worker: WorkerId) -> None:
        """Its probe has passed."""
        known = self._fleet.worker(worker)
        if known is not None and not known.gone:
            self._ready.add(worker)
            self.wake(known.endpoint)

    def worker_unhealthy(self, worker: WorkerId, why: str) -> None:
        """Its probes fail, it refuses the gateway's connections, or it says so itself, which it may while it starts."""
        known = self._fleet.worker(worker)
        if known is not None and not known.gone:
            self._unhealthy[worker] = why
            self._providers.get(known.provider).observer.loop.wake()
            self.wake(known.endpoint)

    def worker_unready(self, worker: WorkerId, why: str | None) -> None:
        """Its readiness probe fails, or (`None`) succeeds again."""
        known = self._fleet.worker(worker)
        if known is not None and not known.gone:
            self._unready[worker] = why or ""
            self.wake(known.endpoint)

    async def start_refused(self, worker: WorkerId, why: str) -> None:
        """Its provider will not start it."""
        self._refused[worker] = why
        self._wake_worker(worker)

    async def start_acknowledged(self, worker: WorkerId) -> None:
        """Its provider has confirmed the start."""
        started = self._fleet.worker(worker)
        if started is None:
            return
        async with self._fleet.lock(started.endpoint):
            known, endpoint = self._fleet.worker(worker), self._fleet.endpoint(started.endpoint)
            if known is None or endpoint is None or known.gone:
                return
            known = replace(known, acknowledged_at=self._clock())
            await self._fleet.commit(Change(endpoint=endpoint, workers={worker: known}))
            self._effects.watch(endpoint, known)
        # A command that ends at once should be seen to have ended at once.
        self._providers.get(known.provider).observer.loop.wake()

    def snapshot_taken(self, provider: str, snapshot: Snapshot, changed: frozenset[WorkerId]) -> None:
        """A provider was listed: look at what changed, and end what nobody wants."""
        managed = self._providers.get(provider)
        for observed in snapshot.workers.values():
            worker = self._fleet.worker(observed.id)
            if worker is not None and worker.state in _KEPT:
                continue
            if not self._stop_due(observed, managed):
                continue
            if worker is None or worker.gone:
                # Left over from a start that was overtaken, or an ended one that the provider still keeps.
                managed.actions.stop(observed.id, grace_s=UNWANTED_GRACE_S)
            elif worker.state is WorkerState.STOPPING:
                self._effects.stop(worker)
        for worker_id in [w for w, (name, _, _) in self._stops_sent.items() if name == provider]:
            if worker_id not in snapshot.workers:
                del self._stops_sent[worker_id]
        for worker_id in changed:
            self._wake_worker(worker_id)
        for worker in self._fleet.all_workers():
            # An absence is no change in the list, but may have become proof; a start may have to be asked for again.
            if worker.id in snapshot.workers and not _unacknowledged(worker):
                continue
            if worker.provider == provider and not worker.gone:
                self.wake(worker.endpoint)

    def _stop_due(self, observed: Observed, managed: Managed) -> bool:
        """Is it time to ask (again) for the end of this listed worker, should it be unwanted? Every stop makes a list,
        and must not with that list make the next stop.
        """
        if not managed.actions.settled(observed.id):
            return False
        now = self._clock()
        sent = self._stops_sent.get(observed.id)
        if sent is not None and sent[1] == observed.running and now - sent[2] < STOP_AGAIN_S:
            return False
        self._stops_sent[observed.id] = (managed.name, observed.running, now)
        return True

    # Passes

    async def run(self) -> None:
        """Until cancelled."""
        room = asyncio.Semaphore(PASSES_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                await self._some_dirty.wait()
                self._some_dirty.clear()
                for endpoint in [e for e in self._dirty if e not in self._running]:
                    await room.acquire()
                    del self._dirty[endpoint]
                    self._running.add(endpoint)
                    group.create_task(self._run_one(endpoint, room))

    async def _run_one(self, endpoint: EndpointId, room: asyncio.Semaphore) -> None:
        try:
            await self.reconcile(endpoint)
        except Exception as exc:
            # The next event or the periodic look makes another try; one endpoint's trouble is nobody else's.
            log.error("pass_failed", endpoint=endpoint, error=str(exc), exc_info=True)
            self._wake_at(endpoint, self._clock() + 1.0)
        finally:
            room.release()
            self._running.discard(endpoint)
            if endpoint in self._dirty:
                self._some_dirty.set()

    async def reconcile(self, endpoint_id: EndpointId) -> None:
        """One pass over one endpoint."""
        async with self._fleet.lock(endpoint_id):
            endpoint = self._fleet.endpoint(endpoint_id)
            if endpoint is None:
                self._wake_at(endpoint_id, None)
                return
            workers = self._fleet.live(endpoint_id)
            tails = await tails_of(self._providers, workers)
            now = self._clock()
            facts = self._facts(endpoint, workers, tails, now)
            step = Pass(
                endpoint,
                workers,
                self._fleet.operations(endpoint_id),
                facts,
                ground=Ground(
                    place=partial(self._place, endpoint),
                    regain=self._regain,
                    make_room=partial(self._scarcity.make_room, endpoint),
                ),
                new_id=self._new_id,
            )
            step.run()
            new: list[Worker] = []
            if not step.empty:
                new, _ = await self._fleet.commit(step.change)
            self._gateway.scaling.passed(endpoint_id, facts.decision, step.change.decisions)
            self._carry_out(step, new)
            self._wake_at(endpoint_id, None if step.change.removed else step.next_at())

    def _facts(self, endpoint: Endpoint, workers: tuple[Worker, ...], tails: dict[WorkerId, str], now: float) -> Facts:
        decision = self._gateway.scaling.decide(endpoint, now=now)
        sights = {worker.id: sight for worker in workers if (sight := self._sight(worker)) is not None}
        ids = [worker.id for worker in workers]
        return Facts(
            now=now,
            probes={worker.id: self._effects.probes(endpoint, worker) for worker in workers},
            sights=sights,
            settled=[w.id for w in workers if self._providers.get(w.provider).actions.settled(w.id)],
            ready=[worker for worker in ids if worker in self._ready],
            unhealthy={worker: self._unhealthy[worker] for worker in ids if worker in self._unhealthy},
            unready={worker: self._unready[worker] for worker in ids if worker in self._unready},
            refused={worker: self._refused[worker] for worker in ids if worker in self._refused},
            drained=self._gateway.drained(endpoint.id, workers),
            loads={**self._gateway.traffic.loads(endpoint.id), **self._gateway.taken(endpoint.id)},
            signals=self._gateway.signals(endpoint, now=now),
            decision=decision,
            recorded=not self._gateway.scaling.news(endpoint, decision),
            tails=tails,
            frees={worker.id: self._effects.frees(endpoint, worker) for worker in workers if worker.chilling},
            makes_way=self._scarcity.wanted_of(ids),
            residence_s=self._scarcity.residence_s,
            hold=self._provisions.hold(endpoint),
            closing=self.closing,
            hurried=self._hurried,
        )

    def _sight(self, worker: Worker) -> Sight | None:
        return self._providers.get(worker.provider).observer.sight(worker.id)

    def _place(
        self,
        endpoint: Endpoint,
        worker: WorkerId,
        pool: PoolSpec,
        *,
        without: frozenset[WorkerId] = frozenset(),
        avoid: Mapping[str, int] | None = None,
    ) -> Placement | Unplaceable:
        launch = endpoint.launches[pool.name]
        offers = self._providers.get(pool.provider).offers_for(launch)
        if without:
            held = self._fleet.placements(pool.provider, now=self._clock(), without=without)
            return place(pool.hardware, offers, held, ports=launch.ports_wanted)
        found = self._fleet.place(pool.provider, pool.hardware, offers, ports=launch.ports_wanted, avoid=avoid)
        if isinstance(found, Placement):
            self._fleet.reserve(worker, pool.provider, found)
        return found

    def _regain(self, worker: Worker) -> Placement | Unplaceable:
        """What it held before it was cold, if nobody has taken it."""
        assert worker.placement is not None
        offers = self._providers.get(worker.provider).offers
        obstacle = regain(worker.placement, offers, self._fleet.placements(worker.provider, now=self._clock()))
        if obstacle is not None:
            return Unplaceable(obstacle, ever=True)
        whole = replace(worker.placement, freed=())
        self._fleet.reserve(worker.id, worker.provider, whole)
        return whole

    # Effects

    def _carry_out(self, step: Pass, new: list[Worker]) -> None:
        endpoint = step.endpoint
        for worker in self._fleet.live(endpoint.id):
            if _unacknowledged(worker):
                self._effects.start(endpoint, worker)
        for worker in (*step.change.workers.values(), *new):
            if worker.state is not WorkerState.STARTING:
                self._ready.discard(worker.id)
            if worker.state not in (WorkerState.STARTING, WorkerState.COLD):
                self._refused.pop(worker.id, None)
            if worker.state is not WorkerState.READY:
                self._unhealthy.pop(worker.id, None)
                self._unready.pop(worker.id, None)
            self._effects.watch(endpoint, worker)
        for worker_id in step.stops:
            stopped = self._fleet.worker(worker_id)
            if stopped is not None:
                self._effects.stop(stopped)
        for worker_id in step.chills:
            idle = self._fleet.worker(worker_id)
            if idle is not None:
                self._effects.chill(endpoint, idle)
        for other in self._scarcity.passed(step, new):
            self.wake(other)
        if step.change.removed:
            self._gateway.withdraw(endpoint.id)
        else:
            self._gateway.publish(endpoint)
            if self._gateway.drained(endpoint.id, tuple(step.change.workers.values())):
                # It got no requests before either, so that the table says nothing new, and nobody will acknowledge it.
                self.wake(endpoint.id)

    def _wake_at(self, endpoint: EndpointId, when: float | None) -> None:
        timer = self._timers.pop(endpoint, None)
        if timer is not None:
            timer.cancel()
        if when is not None:
            delay_s = max(0.0, when - self._clock())
            self._timers[endpoint] = asyncio.get_running_loop().call_later(delay_s, self.wake, endpoint)

    async def resume(self) -> None:
        """After a start of control: ask again for every start that was not acknowledged, and probe what runs."""
        for endpoint in self._fleet.endpoints():
            for worker in self._fleet.live(endpoint.id):
                if _unacknowledged(worker):
                    self._effects.start(endpoint, worker)
                elif worker.state is WorkerState.STOPPING:
                    self._effects.stop(worker)
                elif worker.state is WorkerState.COLD:
                    self._effects.chill(endpoint, worker)
                self._effects.watch(endpoint, worker)
            self._gateway.publish(endpoint)
        self.wake_all()

    async def cut(self) -> None:
        """From now on wait for no request: draining workers are ended whatever they still do."""
        self._hurried = True
        now = self._clock()
        for endpoint_id in [endpoint.id for endpoint in self._fleet.endpoints()]:
            async with self._fleet.lock(endpoint_id):
                # As it is now, under its lock: what it was before must not be written back over it.
                endpoint = self._fleet.endpoint(endpoint_id)
                draining = [w for w in self._fleet.live(endpoint_id) if w.state is WorkerState.DRAINING]
                workers = {worker.id: replace(worker, drain_deadline=now) for worker in draining}
                if endpoint is not None and workers:
                    await self._fleet.commit(Change(endpoint=endpoint, workers=workers))
            self.wake(endpoint_id)

    async def close(self) -> None:
        """Set no more timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


def _unacknowledged(worker: Worker) -> bool:
    """Was its start asked for, or about to be, without an answer so far?"""
    return worker.state is WorkerState.STARTING and worker.acknowledged_at is None

"""Who waits for room, and whose idle workers were asked to make some: kept between passes, asked by the reconciler.

Only `stoker.policy.eviction` decides. What is asked of a worker is settled by the next pass over its endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from stoker.control.fleet import Fleet
from stoker.control.managed import Providers
from stoker.control.passes import Pass
from stoker.control.signals import Gateway
from stoker.domain.endpoint import Endpoint, EndpointId, PoolSpec
from stoker.domain.hardware import Placement
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.policy.eviction import Idle, choose, spare
from stoker.policy.placement import place


class Scarcity:
    """See the module. `residence_s`: how long a worker is ready at least before it makes room; `None`: for ever."""

    def __init__(
        self,
        fleet: Fleet,
        providers: Providers,
        gateway: Gateway,
        *,
        residence_s: float | None,
        clock: Callable[[], float],
    ) -> None:
        self.residence_s = residence_s
        self._fleet = fleet
        self._providers = providers
        self._gateway = gateway
        self._clock = clock
        # In the order in which they came.
        self._blocked: dict[EndpointId, None] = {}
        self._asked: dict[WorkerId, str] = {}

    def wanted_of(self, workers: Iterable[WorkerId]) -> Mapping[WorkerId, str]:
        """Those of the workers that should make room, and why."""
        return {worker: self._asked[worker] for worker in workers if worker in self._asked} if self._asked else {}

    def make_room(self, endpoint: Endpoint, pool: PoolSpec) -> tuple[Idle, ...]:
        """The idle workers whose end gives this pool room; none where room is on its way already."""
        if self.residence_s is None:
            return ()
        now = self._clock()
        held = [w for w in self._fleet.all_workers() if not w.gone and w.placement and w.provider == pool.provider]
        going = frozenset(w.id for w in held if w.id in self._asked or self._ends_soon(w))
        if going and self._fits(endpoint, pool, going, held, now):
            return ()
        candidates = [
            idle
            for other in self._fleet.endpoints()
            if other.id != endpoint.id and any(p.provider == pool.provider for p in other.spec.pools)
            for idle in self._spare(other, self.residence_s, now)
        ]
        mine = {w.id for w in held} - going
        return choose(
            [c for c in candidates if c.worker in mine],
            lambda gone: self._fits(endpoint, pool, gone | going, held, now),
        )

    def _spare(self, endpoint: Endpoint, residence_s: float, now: float) -> list[Idle]:
        live = self._fleet.live(endpoint.id)
        if not any(w.state is WorkerState.READY for w in live):
            return []
        return spare(
            endpoint,
            live,
            self._gateway.signals(endpoint, now=now),
            self._gateway.traffic.loads(endpoint.id),
            now=now,
            residence_s=residence_s,
        )

    def _ends_soon(self, worker: Worker) -> bool:
        if worker.state is WorkerState.STOPPING:
            return True
        idle = not self._gateway.traffic.loads(worker.endpoint).get(worker.id, 0)
        return worker.state is WorkerState.DRAINING and not worker.chilling and idle

    def _fits(
        self, endpoint: Endpoint, pool: PoolSpec, gone: frozenset[WorkerId], held: Sequence[Worker], now: float
    ) -> bool:
        # Only where somebody goes can there be room that was not there before.
        hosts = {w.placement.host for w in held if w.placement is not None and w.id in gone}
        launch = endpoint.launches[pool.name]
        offers = [offer for offer in self._providers.get(pool.provider).offers_for(launch) if offer.host in hosts]
        others = self._fleet.placements(pool.provider, now=now, without=gone)
        return isinstance(place(pool.hardware, offers, others, ports=launch.ports_wanted), Placement)

    def passed(self, step: Pass, new: Sequence[Worker]) -> list[EndpointId]:
        """Take in what a pass came to. The endpoints to be looked at because of it."""
        endpoint = step.endpoint
        for worker in step.makes_way:
            # Done, or not to be done: whoever lacks room asks again.
            self._asked.pop(worker, None)
        for idle in step.evictions:
            self._asked[idle.worker] = f"makes room for {endpoint.slug}"
        if step.blocked is None or step.change.removed:
            self._blocked.pop(endpoint.id, None)
        else:
            self._blocked.setdefault(endpoint.id)
        ended = any(worker.gone for worker in (*step.change.workers.values(), *new))
        waiting = [other for other in self._blocked if other != endpoint.id] if ended else []
        return [*(idle.endpoint for idle in step.evictions), *waiting]

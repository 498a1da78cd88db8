"""Control's view of the gateway: takes in what the link brings, answers what passes ask, and publishes endpoints.

A wake or a report that changes what should run leads to a pass at once; nothing waits for a tick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from stoker.control.fleet import Fleet
from stoker.control.scaling import Scaling, Sources
from stoker.control.table import Publisher
from stoker.domain.endpoint import Endpoint, EndpointId, Phase
from stoker.domain.models import Hold
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.link.messages import Freed, Report, Wake, WorkerDown
from stoker.link.server import LinkServer
from stoker.policy.signals import Signals
from stoker.telemetry.metrics import Metrics
from stoker.telemetry.traffic import WINDOW_S, TrafficMeter

log = structlog.get_logger(__name__)


class Woken(Protocol):
    """What the reconciler offers to this module."""

    def wake(self, endpoint: EndpointId) -> None: ...

    def wake_all(self) -> None: ...

    def worker_unhealthy(self, worker: WorkerId, why: str) -> None: ...


class Gateway:
    """One for the one gateway. `listen_to` and `attach` close the circle with link and reconciler at the start."""

    def __init__(
        self,
        fleet: Fleet,
        traffic: TrafficMeter,
        *,
        clock: Callable[[], float],
        attached: Callable[[EndpointId], Iterable[str]],
        used: Callable[[Iterable[str]], None],
        told: Callable[[Report, str], None],
        shown: Callable[[tuple[str, ...]], None],
        hold: Callable[[Endpoint], Hold | None],
        sources: Sources,
        taken: Callable[[EndpointId], Mapping[WorkerId, int]] = lambda _: {},
        metrics: Metrics | None = None,
    ) -> None:
        """`attached(endpoint)` gives digests of keys; `used(keys)` is told by which keys requests came,
        `told(report, incarnation)` what which gateway reports, `shown(tickets)` with which reservations requests came.
        `hold(endpoint)` is why no worker of it can start now.
        `sources`: what decisions look at besides its reports; `taken(endpoint)`: how many tasks its workers have taken
        themselves, which no gateway knows of.
        """
        self.scaling = Scaling(fleet, traffic, sources)
        self.taken = taken
        self._hold = hold
        self.traffic = traffic
        self.metrics = metrics or Metrics()
        self.freed_listeners: list[Callable[[EndpointId, int], None]] = []
        self._fleet = fleet
        self._clock = clock
        self._attached = attached
        self._used = used
        self._told = told
        self._shown = shown
        self._link: LinkServer
        self._publisher: Publisher
        self._reconciler: Woken

    def attach(self, link: LinkServer, publisher: Publisher, reconciler: Woken) -> None:
        """The other ends, made after this one."""
        self._link, self._publisher, self._reconciler = link, publisher, reconciler

    # What the link brings (stoker.link.server.LinkListener)

    def gateway_connected(self) -> None:
        self.traffic.connected()

    def gateway_lost(self) -> None:
        log.warning("gateway_lost")
        self.metrics.lost(self._link.gateway)
        self.traffic.lost()

    def gateway_leaves(self) -> None:
        self.metrics.lost(self._link.gateway)
        self.traffic.handed_over(self._link.gateway)

    def reported(self, report: Report) -> None:
        now = self._clock()
        self.metrics.update(self._link.gateway, report)
        self._told(report, self._link.gateway)
        endpoints = [e for entry in report.endpoints if (e := self._fleet.endpoint(EndpointId(entry.id))) is not None]
        windows = {endpoint.id: max(self.scaling.windows(endpoint), default=WINDOW_S) for endpoint in endpoints}
        changed = self.traffic.update(report, now=now, windows=windows)
        self._used(report.keys_used)
        self._shown(report.tickets_used)
        for endpoint in endpoints:
            # What is busy is reported again and again, though nobody has come or gone.
            same = endpoint.id not in changed and self.scaling.sleeps(endpoint.id, now=now)
            if self._fleet.has_draining(endpoint.id) or (not same and self._wants_change(endpoint, now)):
                self._reconciler.wake(endpoint.id)

    def woken(self, wake: Wake) -> None:
        endpoint = self._fleet.endpoint(EndpointId(wake.endpoint))
        if endpoint is None:
            return
        now = self._clock()
        self.traffic.wake(endpoint.id, wake.waiting, now=now)
        if self._wants_change(endpoint, now):
            self._reconciler.wake(endpoint.id)

    def worker_down(self, down: WorkerDown) -> None:
        log.warning("worker_refuses", endpoint=down.endpoint, worker=down.worker, reason=down.reason)
        self._reconciler.worker_unhealthy(WorkerId(down.worker), down.reason)

    def freed(self, freed: Freed) -> None:
        """Slots are free of an endpoint with a backlog. Whoever hands out tasks asks to be told."""
        for listener in self.freed_listeners:
            listener(EndpointId(freed.endpoint), freed.slots)

    def leaver_reported(self, incarnation: str, report: Report) -> None:
        self.metrics.update(incarnation, report)
        # What a gateway that is being replaced still finishes counts like everything else.
        self._told(report, incarnation)
        self._shown(report.tickets_used)
        self.traffic.leaving(incarnation, report, now=self._clock())
        for entry in report.endpoints:
            self._reconciler.wake(EndpointId(entry.id))

    def gateway_left(self, incarnation: str) -> None:
        self.metrics.lost(incarnation)
        self.traffic.left(incarnation)
        self._reconciler.wake_all()

    def acknowledged(self, seq: int) -> None:
        """The table has taken effect: perhaps a drain may go on, or a port is free."""
        for endpoint in self._fleet.draining():
            self._reconciler.wake(endpoint)

    # What passes ask

    def signals(self, endpoint: Endpoint, *, now: float) -> Signals | None:
        """The endpoint's signals for its policy."""
        return self.scaling.signals(endpoint, now=now)

    def loads(self, endpoint: EndpointId) -> dict[WorkerId, int]:
        """Requests in flight by worker, as last reported."""
        return {**(self.traffic.loads(endpoint) if self._link.connected else {}), **self.taken(endpoint)}

    def drained(self, endpoint: EndpointId, workers: Sequence[Worker]) -> frozenset[WorkerId]:
        """The draining workers that the gateway has confirmed to have no request and to get none.

        It must have taken over the table that says so, and reported under that table; its silence is no confirmation.
        Of those that ask for tasks it knows nothing: they are drained when they have none.
        """
        taken = self.taken(endpoint)
        idle = frozenset(
            w.id
            for w in workers
            if w.state is WorkerState.DRAINING and self._fleet.ping_s(w) is not None and not taken.get(w.id)
        )
        seq = self._publisher.seq(endpoint)
        if self._link.acked < seq or self.traffic.reported_at_seq(endpoint) < seq:
            return idle
        loads = self.traffic.loads(endpoint)
        entry = self._link.endpoint(endpoint)
        draining_there = frozenset() if entry is None else frozenset(w.id for w in entry.workers if w.draining)
        return idle | frozenset(
            w.id
            for w in workers
            if w.state is WorkerState.DRAINING
            and w.id in draining_there
            and loads.get(w.id, 0) == 0
            and self._link.kept(endpoint, w.id) == 0
        )

    def _wants_change(self, endpoint: Endpoint, now: float) -> bool:
        if endpoint.phase is not Phase.ACTIVE:
            return False
        return self.scaling.wants_change(endpoint, now=now)

    async def look(self) -> None:
        """The periodic look at endpoints that may have become idle: silence brings no report."""
        now = self._clock()
        for due in self.scaling.due(now=now):
            endpoint = self._fleet.endpoint(due)
            if endpoint is not None and self._wants_change(endpoint, now):
                self._reconciler.wake(due)

    # What control says

    def publish(self, endpoint: Endpoint) -> int:
        """Put the endpoint into the gateway's table, as it stands. The number to wait for."""
        # Nothing is sent to those that ask for tasks.
        workers = [w for w in self._fleet.workers(endpoint.id) if self._fleet.ping_s(w) is None]
        attached = frozenset(self._attached(endpoint.id))
        hold = self._hold(endpoint)
        return self._publisher.publish(endpoint, workers, attached=attached, now=self._clock(), hold=hold)

    def demand_changed(self, endpoint_id: EndpointId) -> None:
        """Tasks of it have come, begun or ended."""
        endpoint, now = self._fleet.endpoint(endpoint_id), self._clock()
        if endpoint is None:
            return
        if endpoint.spec.queue.pull:
            # No report will ever have them.
            queue = self.scaling.tasks(endpoint_id, now)
            self.traffic.asked_for(endpoint_id, queue.ready + queue.running, now=now)
        # Nor will any say that one of its workers has finished what it had.
        draining = any(w.state is WorkerState.DRAINING and self._fleet.ping_s(w) for w in self._fleet.live(endpoint_id))
        if draining or self._wants_change(endpoint, now):
            self._reconciler.wake(endpoint_id)

    def publish_again(self, endpoint_id: EndpointId) -> None:
        """The same by id, when something beside the endpoint has changed; unknown ones change nothing."""
        endpoint = self._fleet.endpoint(endpoint_id)
        if endpoint is not None:
            self.publish(endpoint)

    def seq(self, endpoint: EndpointId) -> int:
        """The number of the endpoint's last change in the gateway's table."""
        return self._publisher.seq(endpoint)

    def withdraw(self, endpoint: EndpointId) -> None:
        """The endpoint is gone."""
        self._publisher.withdraw(endpoint)
        self.traffic.forget(endpoint)
        self.scaling.forget(endpoint)

    async def release(self) -> None:
        """Record which ended workers the gateway has forgotten, which starts the quarantine of their ports."""
        now = self._clock()
        released = [
            worker
            for worker in self._fleet.all_workers()
            if worker.gone and worker.released_at is None and self._link.acked >= self._publisher.seq(worker.endpoint)
        ]
        if released:
            await self._fleet.release(released, now=now)
        for endpoint in self._fleet.forget_released(now=now):
            self._publisher.forget(endpoint)

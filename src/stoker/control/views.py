"""What may be looked at: joins the store with what control knows of this moment. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec
from sqlalchemy import Connection

from stoker import __version__
from stoker.control import hosts
from stoker.control.fleet import Fleet, Watch
from stoker.control.managed import Providers
from stoker.control.measuring import Measuring
from stoker.control.provisions import Provisions
from stoker.control.signals import Gateway
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, admit, visible
from stoker.domain.endpoint import Endpoint, EndpointId, Phase
from stoker.domain.errors import NotFound
from stoker.domain.gpus import check_family
from stoker.domain.hardware import HardwareRequest
from stoker.domain.measurements import STALE_S
from stoker.domain.operation import Decision, Event, Operation, OperationId
from stoker.domain.project import AuditEvent
from stoker.domain.views import (
    EndpointView,
    Explanation,
    HostView,
    Info,
    InstanceTypeView,
    Number,
    ParameterView,
    RevisionView,
    Traffic,
    WorkerView,
)
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.engines import base as engines
from stoker.link.server import LinkServer
from stoker.policy.changes import differences
from stoker.policy.signals import WorkerSignals
from stoker.policy.state import condition_of
from stoker.settings import Settings
from stoker.store import audit as audit_rows
from stoker.store import endpoints as endpoint_rows
from stoker.store import journal
from stoker.store import operations as operation_rows
from stoker.store import revisions as revision_rows
from stoker.store import workers as worker_rows
from stoker.telemetry.scaled import Scaled

# Ended workers shown with an endpoint's live ones.
WORKERS_SHOWN_MAX = 1_000
# Rows that are read at a time where all are asked for.
PAGE = 500


class Views:
    """Everything that a principal may see. What it may not see does not exist: `NotFound`."""

    def __init__(
        self,
        fleet: Fleet,
        providers: Providers,
        gateway: Gateway,
        link: LinkServer,
        provisions: Provisions,
        settings: Settings,
        measuring: Measuring,
        *,
        troubled: Callable[[EndpointId], str | None],
        expected_start_s: Callable[[Endpoint], float | None],
        clock: Callable[[], float],
    ) -> None:
        """`troubled(endpoint)` is what is wrong with its triggers, `expected_start_s(endpoint)` what was learned of
        its starts.
        """
        self._troubled = troubled
        self._expected_start_s = expected_start_s
        self._fleet = fleet
        self._providers = providers
        self._gateway = gateway
        self._link = link
        self._provisions = provisions
        self._settings = settings
        self._measuring = measuring
        self._clock = clock
        self._started_at = clock()

    # Endpoints

    async def find(self, reference: str, principal: Principal, action: Action = Action.ENDPOINT_READ) -> Endpoint:
        """The project's endpoint with that id, slug, number or exact name. Raises `NotFound` also for one to which
        the principal may not do that.
        """
        found = await self._fleet.store.read(lambda tx: endpoint_rows.find(tx, reference, project=principal.project))
        if found is None or not _visible(principal, found, action):
            raise NotFound(f"no endpoint {reference[:64]!r}; `stoker ls` lists those there are")
        # The row may be a moment older than what control knows.
        return self._fleet.endpoint(found.id) or found

    async def numbered(self, number: int, principal: Principal, action: Action = Action.ENDPOINT_READ) -> Endpoint:
        """The project's endpoint of that number. Raises `NotFound` as `find` does."""
        rows = await self._fleet.store.read(
            lambda tx: endpoint_rows.page(tx, project=principal.project, after=number - 1, limit=1)
        )
        if not rows or rows[0].number != number or not _visible(principal, rows[0], action):
            raise NotFound(f"no endpoint {number}; `stoker ls` lists those there are")
        return self._fleet.endpoint(rows[0].id) or rows[0]

    async def page(
        self, principal: Principal, *, after: int, limit: int
    ) -> tuple[tuple[EndpointView, ...], int | None]:
        """Endpoints with numbers above `after`, and the number to go on after, if there are more."""
        rows = await self._fleet.store.read(
            lambda tx: endpoint_rows.page(tx, project=principal.project, after=after, limit=limit + 1)
        )
        shown = tuple(self.endpoint(row) for row in rows[:limit] if _visible(principal, row))
        return shown, rows[limit - 1].number if len(rows) > limit else None

    async def every(self, principal: Principal) -> list[EndpointView]:
        """All endpoints of the project that the caller may see, for clients that know of no pages."""
        found: list[EndpointView] = []
        after: int | None = 0
        while after is not None:
            page, after = await self.page(principal, after=after, limit=PAGE)
            found += page
        return found

    def endpoint(self, endpoint: Endpoint) -> EndpointView:
        """An endpoint as it stands."""
        live = self._fleet.live(endpoint.id)
        latest = self._gateway.traffic.latest(endpoint.id) if self._link.connected else None
        traffic = None
        if latest is not None:
            report, at = latest
            traffic = Traffic(
                in_flight=report.in_flight,
                waiting=report.waiting,
                oldest_wait_s=report.oldest_wait_s,
                arrivals=report.arrivals,
                completions=report.completions,
                errors=report.errors,
                refusals=report.refusals,
                age_s=max(0.0, self._clock() - at),
            )
        return EndpointView(
            endpoint=endpoint,
            condition=condition_of(endpoint, live, hold=self._provisions.hold(endpoint)),
            workers=Counter(worker.state for worker in live),
            traffic=traffic,
            url=f"{self._settings.url}/e/{endpoint.slug}",
            openai_url=f"{self._settings.url}/v1",
            trouble=self._troubled(endpoint.id),
        )

    async def revisions(self, endpoint: Endpoint) -> tuple[RevisionView, ...]:
        """The endpoint's revisions that are kept, newest first."""
        kept = await self._fleet.store.read(lambda tx: revision_rows.of_endpoint(tx, endpoint.id))
        shown = []
        for index, revision in enumerate(kept):
            before = msgspec.to_builtins(kept[index + 1].spec) if index + 1 < len(kept) else {}
            changes = differences(before, msgspec.to_builtins(revision.spec)) if before else ()
            present = revision.number == endpoint.revision
            shown.append(RevisionView(revision=revision, present=present, changes=changes))
        return tuple(shown)

    # Workers

    async def workers(self, endpoint: Endpoint) -> tuple[WorkerView, ...]:
        """The endpoint's workers, newest first, ended ones included as long as they are remembered."""
        rows = await self._fleet.store.read(
            lambda tx: worker_rows.of_endpoint(tx, endpoint.id, limit=WORKERS_SHOWN_MAX)
        )
        return tuple(self._worker(row, endpoint) for row in rows)

    def live_workers(self, principal: Principal) -> tuple[WorkerView, ...]:
        """All workers of the project that are not gone, by number."""
        shown = [
            self._worker(worker, endpoint)
            for endpoint in self._fleet.endpoints()
            if _visible(principal, endpoint)
            for worker in self._fleet.live(endpoint.id)
        ]
        return tuple(sorted(shown, key=lambda view: view.worker.number))

    async def worker(self, worker: WorkerId, principal: Principal) -> WorkerView:
        """The worker of that id. Raises `NotFound`."""

        def read(tx: Connection) -> tuple[Worker, Endpoint] | None:
            found = worker_rows.get(tx, worker)
            endpoint = None if found is None else endpoint_rows.get(tx, found.endpoint)
            return None if found is None or endpoint is None else (found, endpoint)

        found = await self._fleet.store.read(read)
        if found is None or not _visible(principal, found[1]):
            raise NotFound(f"no worker {worker[:64]!r}")
        return self._worker(*found)

    def _worker(self, worker: Worker, endpoint: Endpoint) -> WorkerView:
        worker = self._fleet.worker(worker.id) or worker
        loads = self._gateway.loads(endpoint.id)
        # Of one that asks for tasks it is known when it has none.
        idle = None if self._fleet.ping_s(worker) is None else 0
        measured = self._measuring.of(worker.id)
        routable = worker.state in (WorkerState.READY, WorkerState.DRAINING)
        offer = None
        if worker.placement is not None and worker.provider in self._providers:
            offer = self._providers.get(worker.provider).offer(worker.placement.host)
        return WorkerView(
            worker=worker,
            slug=endpoint.slug,
            name=endpoint.spec.name,
            in_flight=loads.get(worker.id, idle) if routable else None,
            engine=measured.engine,
            resources=measured.resources,
            now=self._clock(),
            region=None if offer is None else offer.region,
            virtual=None if offer is None else offer.virtual,
        )

    # Records

    async def events(self, endpoint: EndpointId, *, after: int | None, limit: int) -> tuple[Event, ...]:
        """Events with numbers above `after`, oldest first; without `after` the newest ones."""
        if after is None:
            return await self._fleet.store.read(lambda tx: journal.newest_events(tx, endpoint, limit=limit))
        return await self._fleet.store.read(lambda tx: journal.events_after(tx, endpoint, after=after, limit=limit))

    async def decisions(self, endpoint: EndpointId, *, limit: int, before: int | None = None) -> tuple[Decision, ...]:
        """The newest scaling decisions, newest first; of those with numbers below `before`, if given."""
        return await self._fleet.store.read(
            lambda tx: journal.newest_decisions(tx, endpoint, limit=limit, before=before)
        )

    async def explanation(self, endpoint: Endpoint, *, at: float | None) -> Explanation:
        """The decision that held at that time, or that holds now together with what would be decided now."""
        now = self._clock()
        until = now if at is None else at
        found = await self._fleet.store.read(lambda tx: journal.newest_decisions(tx, endpoint.id, limit=1, until=until))
        decision = found[0] if found else None
        if at is not None:
            return Explanation(at=at, decision=decision)
        present, workers = self._gateway.scaling.look(endpoint, now=now)
        if endpoint.phase is not Phase.ACTIVE:
            reason = f"the endpoint is {endpoint.phase}: nothing is decided"
            present = replace(present, current=0, workers=0, reason=reason, triggers=(), limits=(), advisory=False)
        numbers = {worker.number: _numbers(worker) for worker in workers}
        return Explanation(at=now, decision=decision, present=present, workers=numbers)

    def scaled(self, endpoint: Endpoint) -> Scaled:
        """What its scaling goes by, for the page of metrics. Of its workers that are gone only those count that are
        still ending.
        """
        now = self._clock()
        told: dict[str, list[float]] = {}
        for worker in self._gateway.scaling.workers(endpoint, now):
            for name, reading in worker.named().items():
                fresh = told.setdefault(name, [])
                if reading is not None and reading.age_s <= STALE_S:
                    fresh.append(reading.value)
        heard = self._gateway.traffic.signals(endpoint.id, now=now, windows=())
        return Scaled(
            wanted=endpoint.desired,
            workers=Counter(worker.state.value for worker in self._fleet.live(endpoint.id)),
            start_s=self._expected_start_s(endpoint),
            report_age_s=None if heard is None else heard.age_s,
            signals={name: (sum(v) / max(1, len(v)), len(v)) for name, v in told.items()},
        )

    async def operation(self, operation: OperationId, principal: Principal, *, wait_s: float) -> Operation:
        """The operation, once it has ended or `wait_s` is over. Raises `NotFound`."""
        deadline = self._clock() + wait_s
        with self._fleet.watching() as watch:
            return await self._operation(operation, principal, deadline, watch)

    async def operations(self, principal: Principal, *, limit: int) -> tuple[Operation, ...]:
        """The project's last operations that the caller may see, newest first."""
        found = await self._fleet.store.read(
            lambda tx: operation_rows.newest(tx, project=principal.project, limit=limit)
        )
        project = principal.project
        return tuple(
            each for each in found if visible(principal, Action.ENDPOINT_READ, project=project, endpoint=each.endpoint)
        )

    async def _operation(
        self, operation: OperationId, principal: Principal, deadline: float, watch: Watch
    ) -> Operation:
        while True:
            found = await self._fleet.store.read(
                lambda tx: operation_rows.get(tx, operation, project=principal.project)
            )
            project = principal.project
            if found is None or not visible(principal, Action.ENDPOINT_READ, project=project, endpoint=found.endpoint):
                raise NotFound(f"no operation {operation[:64]!r}")
            left_s = deadline - self._clock()
            if found.ended_at is not None or left_s <= 0:
                return found
            await watch.changed(timeout_s=left_s)

    async def audit(
        self, principal: Principal, *, before: int | None, limit: int, action: str | None, target: str | None
    ) -> tuple[tuple[AuditEvent, ...], int | None]:
        """Audit events of the project with numbers below `before`, newest first, and the number to go on before, if
        there are more. `action` is one or the beginning of several, `target` an id or a name.
        """
        admit(principal, Action.AUDIT_READ)
        rows = await self._fleet.store.read(
            lambda tx: audit_rows.page(
                tx, project=principal.project, before=before, limit=limit + 1, action=action, target=target
            )
        )
        return rows[:limit], rows[limit - 1].number if len(rows) > limit else None

    # The installation

    @property
    def regions(self) -> Mapping[str, int]:
        """The regions with their numbers."""
        return self._settings.regions

    def hosts(self, principal: Principal, wanted: HardwareRequest) -> tuple[HostView, ...]:
        """The hosts of all providers that could run a worker of `wanted` when they are empty. Raises `Invalid`."""
        self._check_families(wanted)
        return hosts.hosts(self._fleet, self._providers, principal, wanted, self.regions, now=self._clock())

    def instance_types(self, wanted: HardwareRequest) -> tuple[InstanceTypeView, ...]:
        """The instance types that have what `wanted` asks for. Raises `Invalid`."""
        self._check_families(wanted)
        return hosts.types(self._fleet, self._providers, wanted, self.regions, now=self._clock())

    def _check_families(self, wanted: HardwareRequest) -> None:
        offers = [offer for managed in self._providers.all() for offer in managed.offers]
        for name in wanted.families:
            check_family(name, "/gpu_family", also={gpu.family for offer in offers for gpu in offer.gpus})

    def engines(self) -> tuple[str, ...]:
        """The engines there are."""
        return engines.names()

    def parameters(self, engine: str, version: str | None) -> tuple[ParameterView, ...]:
        """What an engine's server takes. Raises `Invalid` for an unknown engine or version."""
        return tuple(
            ParameterView(
                name=p.name,
                flags=p.flags,
                type=p.type,
                default=p.default,
                allowed=p.allowed,
                section=p.section,
                description=p.description,
            )
            for p in engines.load(engine).parameters(version)
        )

    def info(self) -> Info:
        """The installation as a whole."""
        return Info(
            version=__version__,
            url=self._settings.url,
            data_dir=str(self._settings.data_dir),
            started_at=self._started_at,
            gateway_connected=self._link.connected,
            gateway_uptime_s=self._gateway.traffic.gateway_uptime_s,
            endpoints=len(self._fleet.endpoints()),
            workers=sum(1 for worker in self._fleet.all_workers() if not worker.gone),
        )


def _numbers(worker: WorkerSignals) -> Mapping[str, Number]:
    return {name: Number(r.value, r.age_s, r.age_s > STALE_S) for name, r in worker.readings().items()}


def _visible(principal: Principal, endpoint: Endpoint, action: Action = Action.ENDPOINT_READ) -> bool:
    return visible(principal, action, project=endpoint.project, endpoint=endpoint.id)

"""The one door through which endpoints change: create, update, scale, start, stop, delete.

Each validates, records endpoint and operation in one transaction, tells the gateway, waits for its acknowledgement (so
that the next call works) and leaves the rest to the reconciler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from stoker.control import audit, launches
from stoker.control.change import Change, EventDraft
from stoker.control.checks import check_cold, check_hardware
from stoker.control.downloads import Downloads
from stoker.control.fleet import Fleet
from stoker.control.managed import Providers
from stoker.control.models import Models, check_launches
from stoker.control.previews import previewed
from stoker.control.reconciler import Reconciler
from stoker.control.secrets import check_references, check_use
from stoker.control.signals import Gateway
from stoker.control.volumes import check_volumes
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, admit, authorise
from stoker.domain.endpoint import WORKERS_MAX, Endpoint, EndpointId, EndpointSpec, Override, Phase, ProjectId
from stoker.domain.errors import Conflict, Invalid, NotFound
from stoker.domain.images import ImageRule
from stoker.domain.launch import Launch
from stoker.domain.operation import Decision, Operation, OperationId, OperationKind, OperationState
from stoker.domain.views import Preview
from stoker.link.server import LinkServer
from stoker.policy.cards import card_gib
from stoker.policy.revisions import revise
from stoker.store import endpoints as rows
from stoker.store import installation, revisions

ACK_WAIT_S = 1.0
SLUG_TRIES_MAX = 20
OVERRIDE_S_MAX = 31_536_000.0
# Providers whose workers are processes of this user: whoever chooses their command has a shell here.
SHELLS = frozenset({"process"})


class _SlugTaken(Exception):
    """Somebody else got the slug first."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of an installation. `operation_timeout_s` is the time that an operation gets."""

    operation_timeout_s: float
    endpoints_max: int = 10_000


class Endpoints:
    """See the module. Methods raise `Invalid`, `NotFound`, `Conflict` or `Forbidden` before they change anything."""

    def __init__(
        self,
        fleet: Fleet,
        providers: Providers,
        gateway: Gateway,
        link: LinkServer,
        reconciler: Reconciler,
        *,
        catalogue: Models,
        downloads: Downloads,
        models: Mapping[str, str],
        images: Sequence[ImageRule],
        regions: Mapping[str, int],
        limits: Limits,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._fleet = fleet
        self._providers = providers
        self._gateway = gateway
        self._link = link
        self._reconciler = reconciler
        self._catalogue = catalogue
        self._downloads = downloads
        self._models = models
        self._images = images
        self._regions = regions
        self._limits = limits
        self._clock = clock
        self._new_id = new_id

    async def create(self, principal: Principal, spec: EndpointSpec) -> tuple[Endpoint, Operation]:
        """A new endpoint of the caller's project."""
        admit(principal, Action.ENDPOINT_CREATE)
        self._check_caller(principal, spec)
        if len(self._fleet.endpoints()) >= self._limits.endpoints_max:
            raise Conflict(f"there are {self._limits.endpoints_max} endpoints already, which is the most")
        check_hardware(self._providers, spec, regions=self._regions)
        endpoint, operation = await self._add(principal, spec)
        await self._downloads.expect(endpoint)
        self._gateway.publish(endpoint)
        self._reconciler.wake(endpoint.id)
        await self._known(endpoint)
        return endpoint, operation

    async def _add(self, by: Principal, spec: EndpointSpec) -> tuple[Endpoint, Operation]:
        # The launch names the slug, and takes too long to resolve within the transaction that settles the slug: so it
        # is guessed first, and guessed again when somebody else took it meanwhile.
        for attempt in range(SLUG_TRIES_MAX):
            # Mostly it is that of the name, and memory is quicker to say so than the store.
            slug = None if attempt else self._fleet.likely_slug(spec.name)
            if slug is None:
                slug = await self._fleet.store.read(lambda tx: _peek_slug(tx, spec, by.project))
            resolved = await self._resolve(spec, slug, by.project)
            check_cold(self._providers, spec, resolved)
            try:
                endpoint, operations = await self._fleet.add(self._insert(by, spec, resolved, slug))
                return endpoint, operations[0]
            except _SlugTaken:
                continue
        raise Conflict("other endpoints of a like name are being created all the time; try again")

    def _insert(
        self, by: Principal, spec: EndpointSpec, resolved: Mapping[str, Launch], slug: str
    ) -> Callable[[Connection], Change]:
        now, new_id, project = self._clock(), EndpointId(self._new_id()), by.project

        def insert(tx: Connection) -> Change:
            _check_name(tx, name=spec.name, project=project)
            check_references(tx, spec, project=project)
            check_volumes(tx, spec, project=project)
            check_launches(tx, resolved)
            number = installation.next_number(tx, "endpoint")
            if rows.free_slug(tx, spec.name, number) != slug:
                raise _SlugTaken
            endpoint = Endpoint(
                id=new_id,
                number=number,
                project=project,
                slug=slug,
                spec=spec,
                launches=resolved,
                revision=1,
                launched=1,
                alike=dict.fromkeys(resolved, (1,)),
                phase=Phase.ACTIVE,
                desired=spec.initial,
                created_at=now,
                updated_at=now,
            )
            operation = self._operation(OperationKind.CREATE, endpoint, spec.initial)
            created = EventDraft(at=now, kind="endpoint_created", message=f"created as {endpoint.slug}")
            audited = audit.endpoint_draft(by, Action.ENDPOINT_CREATE, None, endpoint, operation, at=now)
            return Change(endpoint=endpoint, new_operations=[operation], events=[created], audit=audited)

        return insert

    async def update(
        self, principal: Principal, endpoint_id: EndpointId, spec: EndpointSpec
    ) -> tuple[Endpoint, Operation | None]:
        """Replace the spec. Workers are replaced only when what they run has changed; a spec that changes nothing makes
        no operation.
        """
        self._check_caller(principal, spec)
        async with self._fleet.lock(endpoint_id):
            endpoint = self._changeable(principal, endpoint_id, Action.ENDPOINT_UPDATE)
            if spec == endpoint.spec:
                return endpoint, None
            check_use(principal, spec, endpoint)
            check_hardware(self._providers, spec, regions=self._regions)
            resolved = await self._resolve(spec, endpoint.slug, endpoint.project)
            check_cold(self._providers, spec, resolved)
            changed = revise(endpoint, spec, resolved, self._fleet.revisions(endpoint_id), now=self._clock())
            result = await self._change(principal, OperationKind.UPDATE, changed, workers=spec.bounds.min, revised=True)
        await self._known(changed)
        return result

    async def rollback(
        self, principal: Principal, endpoint_id: EndpointId, number: int | None = None
    ) -> tuple[Endpoint, Operation]:
        """Go back to the spec of an earlier revision (default: the one before), with the launches that it had then. The
        name stays as it is. This makes a new revision; workers of the old one that still run are kept.
        """
        async with self._fleet.lock(endpoint_id):
            endpoint = self._changeable(principal, endpoint_id, Action.ENDPOINT_UPDATE)
            number = endpoint.revision - 1 if number is None else number
            found = await self._fleet.store.read(lambda tx: revisions.get(tx, endpoint_id, number))
            if found is None:
                raise NotFound(
                    f"revision {number} is not kept; `stoker revisions {endpoint.slug}` lists those that are"
                )
            spec = replace(found.spec, name=endpoint.spec.name)
            if spec == endpoint.spec:
                raise Conflict(f"the spec is that of revision {number} already")
            self._check_caller(principal, spec)
            check_use(principal, spec, endpoint)
            check_hardware(self._providers, spec, regions=self._regions)
            earlier = self._fleet.revisions(endpoint_id)
            changed = revise(endpoint, spec, found.launches, earlier, now=self._clock())
            message = f"rolled back to revision {number}"
            result = await self._change(
                principal, OperationKind.UPDATE, changed, workers=spec.bounds.min, revised=True, message=message
            )
        await self._known(changed)
        return result

    async def preview(self, principal: Principal, spec: EndpointSpec) -> Preview:
        """What `create`, or `update` of the endpoint of that name, would do. Raises what that would raise."""
        self._check_caller(principal, spec)
        check_hardware(self._providers, spec, regions=self._regions)
        project = principal.project
        known = await self._fleet.store.read(lambda tx: rows.named(tx, spec.name, project=project))
        endpoint = None if known is None else self._fleet.endpoint(known)
        await self._fleet.store.read(lambda tx: check_references(tx, spec, project=project))
        await self._fleet.store.read(lambda tx: check_volumes(tx, spec, project=project))
        if endpoint is None:
            admit(principal, Action.ENDPOINT_CREATE)
            slug = await self._fleet.store.read(lambda tx: _peek_slug(tx, spec, project))
        else:
            endpoint, slug = self._changeable(principal, endpoint.id, Action.ENDPOINT_UPDATE), endpoint.slug
            check_use(principal, spec, endpoint)
        resolved = await self._resolve(spec, slug, project)
        check_cold(self._providers, spec, resolved)
        return previewed(endpoint, spec, resolved, self._fleet, self._providers, now=self._clock())

    async def scale(
        self, principal: Principal, endpoint_id: EndpointId, workers: int | None, *, for_s: float | None = None
    ) -> tuple[Endpoint, Operation]:
        """Set the number of workers by hand, for `for_s` seconds or until undone; `None` leaves it to the policy."""
        if workers is not None and not 0 <= workers <= WORKERS_MAX:
            raise Invalid.at("/workers", f"workers must be between 0 and {WORKERS_MAX}")
        if for_s is not None and not 0 < for_s <= OVERRIDE_S_MAX:
            raise Invalid.at("/for_s", f"for_s must be above 0 and at most {OVERRIDE_S_MAX:g}")
        if workers is None and for_s is not None:
            raise Invalid.at("/for_s", "for_s needs a number of workers")
        async with self._fleet.lock(endpoint_id):
            endpoint = self._changeable(principal, endpoint_id, Action.ENDPOINT_SCALE)
            if endpoint.phase is not Phase.ACTIVE:
                raise Conflict(f"the endpoint is stopped; start it first: stoker start {endpoint.slug}")
            now = self._clock()
            override = None
            if workers is not None:
                override = Override(workers=workers, until=None if for_s is None else now + for_s)
            changed = replace(endpoint, override=override, failures={}, updated_at=now)
            result = await self._change(principal, OperationKind.SCALE, changed, workers=workers)
        await self._known(changed)
        return result

    async def start(self, principal: Principal, endpoint_id: EndpointId) -> tuple[Endpoint, Operation]:
        """Let it run again after `stop`; harmless when it does."""
        async with self._fleet.lock(endpoint_id):
            endpoint = self._changeable(principal, endpoint_id, Action.ENDPOINT_START)
            floor = endpoint.spec.bounds.min
            changed = replace(endpoint, phase=Phase.ACTIVE, failures={}, updated_at=self._clock())
            result = await self._change(principal, OperationKind.START, changed, workers=floor)
        await self._known(changed)
        return result

    async def stop(self, principal: Principal, endpoint_id: EndpointId) -> tuple[Endpoint, Operation]:
        """Refuse requests, drain its workers and start none, until `start`."""
        async with self._fleet.lock(endpoint_id):
            endpoint = self._changeable(principal, endpoint_id, Action.ENDPOINT_STOP)
            # Nothing is wanted when it starts again, but for what requests or bounds ask then.
            changed = replace(endpoint, phase=Phase.STOPPED, desired=0, override=None, updated_at=self._clock())
            result = await self._change(principal, OperationKind.STOP, changed, workers=0)
        await self._known(changed)
        return result

    async def delete(self, principal: Principal, endpoint_id: EndpointId) -> tuple[Endpoint, Operation]:
        """Refuse requests, drain its workers, then forget it."""
        async with self._fleet.lock(endpoint_id):
            endpoint = self._changeable(principal, endpoint_id, Action.ENDPOINT_DELETE)
            pending = [o for o in self._fleet.operations(endpoint_id) if o.kind is OperationKind.DELETE]
            if pending:
                return endpoint, pending[-1]
            changed = replace(endpoint, phase=Phase.DELETING, updated_at=self._clock())
            result = await self._change(principal, OperationKind.DELETE, changed, workers=0)
        await self._known(changed)
        return result

    async def _change(
        self,
        by: Principal,
        kind: OperationKind,
        endpoint: Endpoint,
        *,
        workers: int | None,
        revised: bool = False,
        message: str | None = None,
    ) -> tuple[Endpoint, Operation]:
        now = self._clock()
        said = {OperationKind.SCALE: "scaled by hand", OperationKind.DELETE: "deletion asked for"}
        message = message or said.get(kind, f"{kind} asked for")
        if kind is OperationKind.SCALE and workers is not None:
            message = f"set to {workers} workers by hand"
        before, operation = self._fleet.endpoint(endpoint.id), self._operation(kind, endpoint, workers)

        def check(tx: Connection) -> None:
            if before is not None and before.spec != endpoint.spec:
                if before.spec.name != endpoint.spec.name:
                    _check_name(tx, name=endpoint.spec.name, project=endpoint.project)
                check_references(tx, endpoint.spec, project=endpoint.project)
                check_volumes(tx, endpoint.spec, project=endpoint.project)
                check_launches(tx, endpoint.launches)

        change = Change(
            endpoint=endpoint,
            revised=revised,
            new_operations=[operation],
            events=[EventDraft(at=now, kind=f"endpoint_{kind}", message=message)],
            decisions=_decided(before, endpoint, at=now),
            check=check,
            audit=audit.endpoint_draft(by, Action(f"endpoint.{kind}"), before, endpoint, operation, at=now),
        )
        _, operations = await self._fleet.commit(change)
        if revised or kind is OperationKind.START:
            await self._downloads.expect(endpoint)
        # One that is deleted or stopped wants nothing any more.
        self._downloads.loop.wake()
        self._gateway.publish(endpoint)
        self._reconciler.wake(endpoint.id)
        return endpoint, operations[0]

    def _operation(self, kind: OperationKind, endpoint: Endpoint, workers: int | None) -> Operation:
        now = self._clock()
        return Operation(
            id=OperationId(self._new_id()),
            number=0,
            kind=kind,
            endpoint=endpoint.id,
            state=OperationState.PENDING,
            created_at=now,
            deadline_at=now + self._limits.operation_timeout_s,
            revision=endpoint.revision,
            workers=workers,
        )

    async def _known(self, endpoint: Endpoint) -> None:
        """Wait until the gateway knows. One that is away gets its table when it comes back: nobody waits for long."""
        await self._link.wait_acked(self._gateway.seq(endpoint.id), timeout_s=ACK_WAIT_S)

    def _changeable(self, principal: Principal, endpoint_id: EndpointId, action: Action) -> Endpoint:
        endpoint = self._fleet.endpoint(endpoint_id)
        if endpoint is None:
            raise NotFound("the endpoint is gone")
        authorise(principal, action, project=endpoint.project, endpoint=endpoint_id, what="such endpoint")
        if endpoint.phase is Phase.DELETING and action is not Action.ENDPOINT_DELETE:
            raise Conflict("the endpoint is being deleted")
        return endpoint

    def _check_caller(self, principal: Principal, spec: EndpointSpec) -> None:
        for index, pool in enumerate(spec.pools):
            self._providers.check(pool.provider, f"/pools/{index}/provider")
            if pool.provider in SHELLS:
                admit(principal, Action.SHELL_USE)

    async def _resolve(self, spec: EndpointSpec, slug: str, project: ProjectId) -> dict[str, Launch]:
        """What workers of each pool run."""
        shelf = launches.Shelf(named=self._models, found=await self._catalogue.find(spec, project=project))
        grounds = {}
        for pool in spec.pools:
            managed = self._providers.get(pool.provider)
            grounds[pool.name] = launches.Ground(
                images=None if managed.provider.images else self._images,
                image_of=managed.provider.image_of,
                cards=managed.cards_for(pool.hardware),
                card_gib=card_gib(pool.hardware, managed.offers),
                provider=pool.provider,
            )
        return await asyncio.to_thread(launches.resolve, spec, slug, shelf=shelf, grounds=grounds)


def _check_name(tx: Connection, *, name: str, project: ProjectId) -> None:
    if rows.named(tx, name, project=project) is not None:
        raise Conflict(f"the name {name!r} is taken; choose another, or change the endpoint: stoker apply -f FILE")


def _peek_slug(tx: Connection, spec: EndpointSpec, project: ProjectId) -> str:
    _check_name(tx, name=spec.name, project=project)
    return rows.free_slug(tx, spec.name, installation.peek_number(tx, "endpoint"))


def _decided(before: Endpoint | None, after: Endpoint, *, at: float) -> list[Decision]:
    """Nobody but who stops an endpoint decides beside its policy."""
    if before is None or after.phase is not Phase.STOPPED or before.desired == after.desired:
        return []
    return [Decision(at=at, current=before.desired, workers=after.desired, reason="the endpoint is stopped")]

"""Endpoints: create, list, get, update, delete, start, stop and scale."""

from __future__ import annotations

from typing import Annotated, get_args

from fastapi import APIRouter, Path, Query

from stoker.dialects.yotta import mapping, showing
from stoker.dialects.yotta.caller import Caller, Context, KeyedRoute
from stoker.dialects.yotta.errors import INVALID, NO_ENDPOINT, NOT_ALLOWED, Refused
from stoker.dialects.yotta.placing import resized
from stoker.dialects.yotta.wire.base import Envelope, told
from stoker.dialects.yotta.wire.endpoints import EndpointIn, EndpointOut, EndpointPatch, ScaleIn, Status
from stoker.domain.authorisation import Action
from stoker.domain.endpoint import WORKERS_MAX, Endpoint, Phase
from stoker.domain.errors import Conflict, Invalid, NotFound
from stoker.domain.hardware import HardwareRequest
from stoker.domain.views import EndpointView, WorkerView

router = APIRouter(route_class=KeyedRoute, tags=["endpoints"])

PREFIX = "/serverless"
Count = Annotated[int, Query(ge=0, le=WORKERS_MAX)]
InPath = Annotated[int, Path(ge=0, le=WORKERS_MAX)]
StatusList = Annotated[list[str] | None, Query(alias="statusList", max_length=64)]


def asked_for(given: list[str] | None, known: tuple[str, ...]) -> frozenset[str]:
    """The statuses of a filter: a list with commas, or said again and again. Raises `Invalid`."""
    names = {name.strip().upper() for text in given or () for name in text.split(",") if name.strip()}
    for name in sorted(names - set(known)):
        raise Invalid.at("/statusList", f"no status {name[:32]!r}; there are {', '.join(known)}")
    return frozenset(names)


async def _shown(context: Context, endpoint: Endpoint) -> EndpointOut:
    view = context.services.views.endpoint(endpoint)
    live = [each for each in context.services.views.live_workers(context.principal) if _is_of(each, endpoint)]
    return showing.endpoint_out(view, live, now=context.services.clock())


def _is_of(worker: WorkerView, endpoint: Endpoint) -> bool:
    return worker.worker.endpoint == endpoint.id


def _finds(context: Context) -> mapping.Finds:
    """Which provider has a machine for a worker; real ones first, where no cards are asked for."""

    def find(hardware: HardwareRequest) -> str:
        hosts = context.services.views.hosts(context.principal, hardware)
        here = [host for host in hosts if hardware.region in (None, host.offer.region)]
        if not hardware.gpu_count:
            here = [host for host in here if not host.offer.virtual]
        if not here:
            cards = f"{hardware.gpu_count} x {' or '.join(hardware.families)}" if hardware.gpu_count else "so much"
            raise Invalid.at("/resources", f"no machine in the region {hardware.region} has {cards} for one worker")
        return here[0].provider

    return find


async def _credential(context: Context, id: int | None) -> str | None:
    if not id:
        return None
    try:
        return (await context.services.credentials.get(context.principal, str(id))).name
    except NotFound:
        raise Invalid.at("/containerRegistryAuthId", f"no registry credential {id}") from None


@router.post(PREFIX, operation_id="create-endpoint")
async def create_endpoint(body: EndpointIn, context: Caller) -> Envelope[EndpointOut]:
    """A new endpoint; its workers are started at once."""
    credential = await _credential(context, body.container_registry_auth_id)
    spec = mapping.created(body, _finds(context), credential=credential)
    try:
        endpoint, _ = await context.services.endpoints.create(context.principal, spec)
    except Conflict as exc:
        raise Refused(INVALID, str(exc)) from exc
    return told("Endpoint created successfully", await _shown(context, endpoint))


@router.get(PREFIX, operation_id="list-endpoints")
async def list_endpoints(context: Caller, status_list: StatusList = None) -> Envelope[list[EndpointOut]]:
    """All of the project, or those with one of these statuses."""
    wanted = asked_for(status_list, get_args(Status))
    now, workers = context.services.clock(), context.services.views.live_workers(context.principal)

    def shown(view: EndpointView) -> EndpointOut:
        return showing.endpoint_out(view, [each for each in workers if _is_of(each, view.endpoint)], now=now)

    views = await context.views()
    return told("Success", [shown(each) for each in views if not wanted or showing.status_of(each) in wanted])


@router.get(PREFIX + "/{id}", operation_id="get-endpoint")
async def get_endpoint(id: str, context: Caller) -> Envelope[EndpointOut]:
    """An endpoint by id."""
    return told("Endpoint found", await _shown(context, await context.endpoint(id)))


async def _changeable(context: Context, id: str, action: Action) -> Endpoint:
    endpoint = await context.endpoint(id, action)
    if endpoint.phase is Phase.DELETING:
        raise Refused(NO_ENDPOINT)
    return endpoint


@router.patch(PREFIX + "/{id}", operation_id="update-endpoint")
async def update_endpoint(id: str, body: EndpointPatch, context: Caller) -> Envelope[EndpointOut]:
    """Change what is said; the rest stays. While it runs, only its name, number of workers and webhook change."""
    endpoint = await _changeable(context, id, Action.ENDPOINT_UPDATE)
    now, services = context.services.clock(), context.services
    credential = await _credential(context, body.container_registry_auth_id)
    have = showing.wanted_of(endpoint, now=now)
    spec = mapping.changed(endpoint.spec, body, _finds(context), credential=credential, workers=have)
    if endpoint.phase is not Phase.STOPPED and not mapping.is_light(endpoint.spec, spec):
        raise Refused(NOT_ALLOWED, "stop it first: only its name, number of workers and webhook change while it runs")
    try:
        endpoint, _ = await services.endpoints.update(context.principal, endpoint.id, spec)
    except Conflict as exc:
        raise Refused(INVALID, str(exc)) from exc
    if body.workers is not None:
        endpoint = await _let_go(context, endpoint, body.workers)
    return told("Endpoint updated successfully", await _shown(context, endpoint))


async def _let_go(context: Context, endpoint: Endpoint, workers: int) -> Endpoint:
    """A number that was set by hand elsewhere does not stand in the way of the one that was asked for."""
    by_hand = resized(endpoint.spec, workers) is None
    if endpoint.phase is Phase.ACTIVE and (by_hand or endpoint.override is not None):
        wanted = workers if by_hand else None
        endpoint, _ = await context.services.endpoints.scale(context.principal, endpoint.id, wanted)
    return endpoint


@router.delete(PREFIX + "/{id}", operation_id="delete-endpoint")
async def delete_endpoint(id: str, context: Caller) -> Envelope[bool]:
    """Let its requests finish, then forget it."""
    endpoint = await _changeable(context, id, Action.ENDPOINT_DELETE)
    await context.services.endpoints.delete(context.principal, endpoint.id)
    return told("Endpoint deleted", True)


@router.post(PREFIX + "/{id}/start", operation_id="start-endpoint")
async def start_endpoint(id: str, context: Caller) -> Envelope[bool]:
    """Let it run again; harmless when it does."""
    endpoint = await _changeable(context, id, Action.ENDPOINT_START)
    if endpoint.phase is not Phase.ACTIVE:
        await context.services.endpoints.start(context.principal, endpoint.id)
    return told("Endpoint started", True)


@router.post(PREFIX + "/{id}/stop", operation_id="stop-endpoint")
async def stop_endpoint(id: str, context: Caller) -> Envelope[bool]:
    """Refuse requests and let all of its workers end; harmless when they have."""
    endpoint = await _changeable(context, id, Action.ENDPOINT_STOP)
    if endpoint.phase is Phase.ACTIVE:
        await context.services.endpoints.stop(context.principal, endpoint.id)
    return told("Endpoint stopped", True)


async def _scaled(context: Context, id: str, count: int) -> Envelope[bool]:
    endpoint = await _changeable(context, id, Action.ENDPOINT_SCALE)
    spec = resized(endpoint.spec, count)
    if spec is not None:
        endpoint, _ = await context.services.endpoints.update(context.principal, endpoint.id, spec)
    await _let_go(context, endpoint, count)
    return told("Workers scaled", True)


@router.put(PREFIX + "/{id}/workers", operation_id="scale-workers")
async def scale_workers(
    id: str, context: Caller, count: Count | None = None, body: ScaleIn | None = None
) -> Envelope[bool]:
    """Set the number of workers; of one that is stopped, for when it starts."""
    wanted = count if count is not None else None if body is None else body.count
    if wanted is None:
        raise Invalid.at("/count", "say how many workers")
    return await _scaled(context, id, wanted)


@router.put(PREFIX + "/{id}/workers/{count}", operation_id="scale-workers-by-path")
async def scale_workers_by_path(id: str, count: InPath, context: Caller) -> Envelope[bool]:
    """The same, as an older description has it."""
    return await _scaled(context, id, count)

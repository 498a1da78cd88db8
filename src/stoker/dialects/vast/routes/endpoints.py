"""Endpoints: create, list, show, update, delete."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter

from stoker.dialects.vast import mapping, showing
from stoker.dialects.vast.caller import Caller, Context, Id, KeyedRoute
from stoker.dialects.vast.wire.base import Deleted, Done, Identified
from stoker.dialects.vast.wire.endpoints import (
    DEFAULT_NAME,
    EndpointIn,
    EndpointMade,
    EndpointOut,
    EndpointPatch,
    EndpointShown,
    EndpointsOut,
    Kept,
    State,
)
from stoker.domain.authorisation import Action, permits
from stoker.domain.endpoint import Endpoint, EndpointSpec, Phase
from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest

router = APIRouter(route_class=KeyedRoute, tags=["endpoints"])

PREFIX = "/api/v0/endptjobs"


def providers_for(context: Context, hardware: HardwareRequest) -> list[str]:
    """Who has the machines for that, who has room for most of it first. Raises `Invalid` where nobody does."""
    hosts = context.services.views.hosts(context.principal, hardware)
    fits: dict[str, int] = {}
    for host in hosts:
        fits[host.provider] = fits.get(host.provider, 0) + host.fits
    if not fits:
        raise Invalid.at("/search_params", "no offers match")
    # Where processes run, images cannot: it is the last among equals.
    return sorted(fits, key=lambda name: (-fits[name], name == "process"))


async def key_of(context: Context, endpoint: Endpoint) -> str:
    """The endpoint's own key; for one who may not see that, the key that was shown."""
    if not permits(context.principal, Action.ENDPOINT_REVEAL):
        return context.secret
    _, secret = await context.services.keys.own(context.principal, endpoint)
    return secret


async def shown(context: Context, endpoint: Endpoint) -> EndpointOut:
    """An endpoint with its key."""
    return showing.endpoint_out(endpoint, key=await key_of(context, endpoint))


def bare(context: Context, name: str, kept: Kept) -> EndpointSpec:
    """An endpoint without workergroups."""
    return mapping.empty(name, kept, providers_for(context, HardwareRequest())[0])


async def _into(context: Context, endpoint: Endpoint, state: State) -> Endpoint:
    """Have it be what its owner wants."""
    doors, by = context.services.endpoints, context.principal
    if state == "stopped":
        return endpoint if endpoint.phase is Phase.STOPPED else (await doors.stop(by, endpoint.id))[0]
    if endpoint.phase is Phase.STOPPED:
        endpoint = (await doors.start(by, endpoint.id))[0]
    if state == "suspended":
        # What there is stays, whatever is asked of it.
        return (await doors.scale(by, endpoint.id, endpoint.desired))[0]
    return endpoint if endpoint.override is None else (await doors.scale(by, endpoint.id, None))[0]


async def apply(context: Context, endpoint: Endpoint | None, spec: EndpointSpec, kept: Kept) -> Endpoint:
    """Change its spec to this one with these parameters; without an endpoint, make one of it."""

    async def written(spec: EndpointSpec) -> Endpoint:
        doors, by = context.services.endpoints, context.principal
        return (await (doors.create(by, spec) if endpoint is None else doors.update(by, endpoint.id, spec)))[0]

    spec = mapping.settled(spec, kept, cold_max=_room(context, spec))
    try:
        return await written(spec)
    except Invalid as exc:
        # Of cold workers there are none where nothing can keep them, which is no reason for having none at all.
        if not any(problem.pointer.endswith("/bounds/cold") for problem in exc.problems):
            raise
        return await written(mapping.without_cold(spec))


def _room(context: Context, spec: EndpointSpec) -> int:
    """How many workers of the first pool there is room for on machines that are empty."""
    hardware = spec.pools[0].hardware
    hosts = context.services.views.hosts(context.principal, hardware)
    return sum(max(1, host.fits + host.workers) for host in hosts if host.provider == spec.pools[0].provider)


@router.post(PREFIX, operation_id="create-endpoint")
async def create_endpoint(body: EndpointIn, context: Caller) -> EndpointMade:
    """A new endpoint, which runs nothing until it has a workergroup."""
    kept = mapping.given(Kept(), body)
    spec = bare(context, body.endpoint_name or DEFAULT_NAME, kept)
    endpoint, _ = await context.services.endpoints.create(context.principal, spec)
    return EndpointMade(result=(await _into(context, endpoint, kept.state)).number)


@router.get(PREFIX, operation_id="list-endpoints")
async def list_endpoints(context: Caller) -> EndpointsOut:
    """All endpoints, whoever made them."""
    return EndpointsOut(results=[await shown(context, view.endpoint) for view in await context.views()])


@router.get(PREFIX + "/{id}", operation_id="show-endpoint")
async def show_endpoint(id: Id, context: Caller) -> EndpointShown:
    """One endpoint."""
    return EndpointShown(result=await shown(context, await context.numbered(id)))


@router.put(PREFIX + "/{id}", operation_id="update-endpoint")
async def update_endpoint(id: Id, body: EndpointPatch, context: Caller) -> Done:
    """Change what is said of it, or have it stopped, held or started."""
    endpoint = await context.numbered(id, Action.ENDPOINT_UPDATE)
    before = mapping.kept_of(endpoint.spec)
    kept = mapping.given(before, body)
    spec = endpoint.spec
    if body.endpoint_name is not None:
        spec = replace(spec, name=body.endpoint_name)
    if kept != before or spec != endpoint.spec:
        endpoint = await apply(context, endpoint, spec, kept)
    if body.endpoint_state is not None:
        await _into(context, endpoint, body.endpoint_state)
    return Done()


@router.delete(PREFIX + "/{id}", operation_id="delete-endpoint")
async def delete_endpoint(id: Id, context: Caller, body: Identified | None = None) -> Deleted:
    """An end to the endpoint, its workergroups and workers."""
    endpoint = await context.numbered(id, Action.ENDPOINT_DELETE)
    workers = await context.services.views.workers(endpoint)
    await context.services.endpoints.delete(context.principal, endpoint.id)
    return Deleted(deleted_workers=sorted(view.worker.number for view in workers if not view.worker.gone))

"""Deployments: create, list, get, update, delete, start, stop and logs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from stoker.dialects.gcore import showing
from stoker.dialects.gcore.caller import PAGE_ITEMS_MAX, Caller, Context, KeyedRoute, Limit, Offset
from stoker.dialects.gcore.flavors import place_of
from stoker.dialects.gcore.mapping import changed, created, region_of, retention_s
from stoker.dialects.gcore.routes import keys
from stoker.dialects.gcore.routes.catalogue import check_regions
from stoker.dialects.gcore.routes.tasks import keep
from stoker.dialects.gcore.wire.base import Page, moment
from stoker.dialects.gcore.wire.catalogue import LimitsIn, LimitsOut
from stoker.dialects.gcore.wire.deployments import (
    DeploymentIn,
    DeploymentOut,
    DeploymentPatch,
    LegacyKeyOut,
    LogOut,
    TasksOut,
)
from stoker.domain.access import ApiKey
from stoker.domain.endpoint import Access, Endpoint
from stoker.domain.errors import Conflict, Invalid, NotFound
from stoker.domain.operation import Operation
from stoker.domain.views import EndpointView

router = APIRouter(route_class=KeyedRoute, tags=["deployments"])

PREFIX = "/v3/inference/{project_id}/deployments"
# The request that made a deployment, by its endpoint: posted again, it is answered with the same task.
MADE = "gcore create"
LINES_MAX = 10_000


@router.post(PREFIX, operation_id="create-deployment")
async def create_deployment(body: DeploymentIn, context: Caller) -> TasksOut:
    """A new deployment. The same request again within a day is answered with the same task."""
    data = body.model_dump(mode="json", by_alias=True, exclude_unset=True)
    digest = hashlib.sha256(msgspec.json.encode(data, order="deterministic")).hexdigest()
    repeated = await _repeated(context, body.name, digest)
    if repeated is not None:
        return TasksOut(tasks=[repeated])
    await _check_credential(context, body.credentials_name)
    attached = await keys.named(context, body.api_keys) if body.api_keys else []
    spec = created(body, place_of(context.services, context.principal))
    endpoint, operation = await context.services.endpoints.create(context.principal, spec)
    made = msgspec.json.encode({"digest": digest, "task": operation.id}).decode()
    await context.services.once.keep(context.principal.project, MADE, endpoint.id, made)
    await keep(context, operation, body.name, data)
    if attached:
        await keys.attach(context, endpoint, attached)
    if body.auth_enabled:
        await context.services.keys.own(context.principal, endpoint)
    return TasksOut(tasks=[operation.id])


async def _repeated(context: Context, name: str, digest: str) -> str | None:
    """The task that the same request has made already. Raises `Conflict` when another one took the name."""
    try:
        endpoint = await context.endpoint(name)
    except NotFound:
        return None
    kept = await context.services.once.kept(context.principal.project, MADE, endpoint.id)
    first = {} if kept is None else msgspec.json.decode(kept)
    if first.get("digest") != digest:
        raise Conflict(f"there is a deployment named {name!r} already")
    return str(first["task"])


async def _check_credential(context: Context, name: str | None) -> None:
    if not name:
        return
    try:
        await context.services.credentials.get(context.principal, name)
    except NotFound:
        raise Invalid.at("/credentials_name", f"no registry credential {name[:64]!r}") from None


async def shown(context: Context, view: EndpointView, known: Sequence[ApiKey]) -> DeploymentOut:
    """An endpoint as a deployment; `known` are the keys that the caller may see."""
    workers = await context.services.views.workers(view.endpoint)
    attached = [key.name for key in known if view.endpoint.id in (key.endpoints or ())]
    regions = {number: name for name, number in context.services.views.regions.items()}
    return showing.deployment(view, workers, keys=attached, regions=regions, base=context.services.url)


@router.get(PREFIX, operation_id="list-deployments")
async def list_deployments(context: Caller, limit: Limit = PAGE_ITEMS_MAX, offset: Offset = 0) -> Page[DeploymentOut]:
    """All deployments of the project, whoever made them."""
    views = await context.views()
    known = await keys.visible(context)
    page = [await shown(context, view, known) for view in views[offset : offset + limit]]
    return Page(count=len(views), results=page)


@router.get(PREFIX + "/{deployment_name}", operation_id="get-deployment")
async def get_deployment(deployment_name: str, context: Caller) -> DeploymentOut:
    """A deployment by name."""
    view = context.services.views.endpoint(await context.endpoint(deployment_name))
    return await shown(context, view, await keys.visible(context))


@router.patch(PREFIX + "/{deployment_name}", operation_id="update-deployment")
async def update_deployment(deployment_name: str, body: DeploymentPatch, context: Caller) -> TasksOut:
    """Change what is said; the rest stays. Keys are changed at once."""
    services, caller = context.services, context.principal
    endpoint = await context.endpoint(deployment_name)
    await _check_credential(context, body.credentials_name)
    attached = None if body.api_keys is None else await keys.named(context, body.api_keys)
    spec = changed(endpoint.spec, body, place_of(context.services, context.principal))
    endpoint, operation = await services.endpoints.update(caller, endpoint.id, spec)
    if attached is not None:
        await keys.attach(context, endpoint, attached)
    if body.auth_enabled:
        await services.keys.own(caller, endpoint)
    if operation is None:
        return TasksOut(tasks=[])
    await keep(context, operation, deployment_name, body.model_dump(mode="json", by_alias=True, exclude_unset=True))
    return TasksOut(tasks=[operation.id])


@router.delete(PREFIX + "/{deployment_name}", operation_id="delete-deployment")
async def delete_deployment(deployment_name: str, context: Caller) -> TasksOut:
    """Let its requests finish, then forget it. Keys are let go of."""
    endpoint = await context.endpoint(deployment_name)
    _, operation = await context.services.endpoints.delete(context.principal, endpoint.id)
    await keep(context, operation, deployment_name, None)
    await keys.let_go(context, endpoint)
    await context.services.keys.disown(endpoint)
    return TasksOut(tasks=[operation.id])


async def _noted(context: Context, name: str, outcome: tuple[Endpoint, Operation]) -> Response:
    await keep(context, outcome[1], name, None)
    return Response(status_code=204)


@router.post(PREFIX + "/{deployment_name}/start", operation_id="start-deployment", status_code=204)
async def start_deployment(deployment_name: str, context: Caller) -> Response:
    """Let it run again; harmless when it does."""
    endpoint = await context.endpoint(deployment_name)
    return await _noted(
        context, deployment_name, await context.services.endpoints.start(context.principal, endpoint.id)
    )


@router.post(PREFIX + "/{deployment_name}/stop", operation_id="stop-deployment", status_code=204)
async def stop_deployment(deployment_name: str, context: Caller) -> Response:
    """Refuse requests and let all of its containers end."""
    endpoint = await context.endpoint(deployment_name)
    return await _noted(context, deployment_name, await context.services.endpoints.stop(context.principal, endpoint.id))


@router.get(PREFIX + "/{deployment_name}/logs", operation_id="list-logs")
async def list_logs(
    deployment_name: str,
    context: Caller,
    limit: Limit = PAGE_ITEMS_MAX,
    offset: Offset = 0,
    order_by: Literal["time.asc", "time.desc"] = "time.desc",
    region_id: Annotated[int | None, Query()] = None,
) -> Page[LogOut]:
    """Output of its containers: of the last lines of each, those that are not older than its retention says."""
    services = context.services
    endpoint = await context.endpoint(deployment_name)
    regions = {number: name for name, number in services.views.regions.items()}
    workers = {view.worker.id: view.worker for view in await services.views.workers(endpoint)}
    pools = {pool.name: region_of(pool, regions) for pool in endpoint.spec.pools}
    kept_s = retention_s(endpoint.spec)
    since = None if kept_s is None else services.clock() - kept_s
    found: list[LogOut] = []
    entries = services.logs.of_endpoint(endpoint.id, tail=LINES_MAX, follow=False, since=since)
    async with aclosing(entries) as lines:
        async for entry in lines:
            worker = next((each for each in workers.values() if each.id == entry.worker), None)
            region = min(regions) if worker is None else pools.get(worker.pool, min(regions))
            if region_id in (None, region):
                found.append(LogOut(message=entry.text, pod=entry.worker, region_id=region, time=moment(entry.at)))
    if order_by == "time.desc":
        found.reverse()
    return Page.of(found, limit=limit, offset=offset)


@router.get(PREFIX + "/{deployment_name}/apikey", operation_id="get-deployment-api-key")
async def get_deployment_api_key(deployment_name: str, context: Caller) -> LegacyKeyOut:
    """The key of one made with `auth_enabled`, for clients before 0.42."""
    endpoint = await context.endpoint(deployment_name)
    if endpoint.spec.access is not Access.ATTACHED:
        raise NotFound(f"the deployment {deployment_name[:64]!r} has no key of its own")
    _, secret = await context.services.keys.own(context.principal, endpoint)
    return LegacyKeyOut(secret=secret, status="READY")


@router.post(PREFIX + "/check_limits", operation_id="check-limits")
async def check_limits(body: LimitsIn, context: Caller) -> LimitsOut:
    """Nothing is rationed. What could not be deployed is refused."""
    place = place_of(context.services, context.principal)
    check_regions(
        place, place.flavor(body.flavor_name), [each.region_id for each in body.containers], "/containers/{}/region_id"
    )
    return LimitsOut()

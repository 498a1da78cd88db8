"""Endpoints: create, read, update, delete, start, stop, scale."""

from __future__ import annotations

from fastapi import APIRouter

from stoker.api.routes.context import Caller, Context, Cursor, Limit, after_of, cursor_of
from stoker.api.routes.templates import SpecRoute
from stoker.api.wire.base import Page
from stoker.api.wire.endpoints import Changed, EndpointOut, PreviewOut, RevisionOut, RollbackIn, ScaleIn
from stoker.api.wire.records import OperationOut
from stoker.api.wire.spec import SpecIn
from stoker.domain.endpoint import Endpoint
from stoker.domain.operation import Operation

router = APIRouter(route_class=SpecRoute, tags=["endpoints"])


def _changed(context: Context, endpoint: Endpoint, operation: Operation | None) -> Changed:
    return Changed(
        endpoint=EndpointOut.of(context.services.views.endpoint(endpoint), reveal=True),
        operation=None if operation is None else OperationOut.of(operation),
    )


@router.post("/endpoints", status_code=201)
async def create_endpoint(body: SpecIn, context: Caller) -> Changed:
    """Create an endpoint. The gateway knows it when this answers; its workers follow."""
    endpoint, operation = await context.services.endpoints.create(context.principal, body.to_spec())
    return _changed(context, endpoint, operation)


@router.post("/endpoints:plan")
async def plan_endpoint(body: SpecIn, context: Caller) -> PreviewOut:
    """What creating this endpoint, or updating the one of that name, would do. Changes nothing."""
    return PreviewOut.of(await context.services.endpoints.preview(context.principal, body.to_spec()))


@router.get("/endpoints")
async def list_endpoints(context: Caller, limit: Limit = 100, cursor: Cursor = None) -> Page[EndpointOut]:
    """All endpoints of the project, oldest first."""
    views, last = await context.services.views.page(context.principal, after=after_of(cursor), limit=limit)
    return Page(items=[EndpointOut.of(view, reveal=context.reveals) for view in views], next=cursor_of(last))


@router.post("/endpoints/{ref}:start", status_code=202)
async def start_endpoint(ref: str, context: Caller) -> Changed:
    """Let a stopped endpoint run again."""
    endpoint = await context.endpoint(ref)
    return _changed(context, *await context.services.endpoints.start(context.principal, endpoint.id))


@router.post("/endpoints/{ref}:stop", status_code=202)
async def stop_endpoint(ref: str, context: Caller) -> Changed:
    """Drain and stop all workers and refuse requests, until it is started again."""
    endpoint = await context.endpoint(ref)
    return _changed(context, *await context.services.endpoints.stop(context.principal, endpoint.id))


@router.post("/endpoints/{ref}:scale", status_code=202)
async def scale_endpoint(ref: str, body: ScaleIn, context: Caller) -> Changed:
    """Set the number of workers by hand, or give it back to the scaling policy."""
    endpoint = await context.endpoint(ref)
    return _changed(
        context,
        *await context.services.endpoints.scale(context.principal, endpoint.id, body.workers, for_s=body.for_s),
    )


@router.post("/endpoints/{ref}:rollback", status_code=202)
async def roll_back_endpoint(ref: str, body: RollbackIn, context: Caller) -> Changed:
    """Go back to the spec of an earlier revision; this makes a new one."""
    endpoint = await context.endpoint(ref)
    return _changed(context, *await context.services.endpoints.rollback(context.principal, endpoint.id, body.revision))


@router.get("/endpoints/{ref}/revisions")
async def list_revisions(ref: str, context: Caller) -> Page[RevisionOut]:
    """The specs that the endpoint had, newest first, as long as they are kept."""
    endpoint = await context.endpoint(ref)
    views = await context.services.views.revisions(endpoint)
    return Page(items=[RevisionOut.of(view, reveal=context.reveals) for view in views])


@router.get("/endpoints/{ref}")
async def get_endpoint(ref: str, context: Caller) -> EndpointOut:
    """An endpoint by id, slug, number or name."""
    endpoint = await context.endpoint(ref)
    return EndpointOut.of(context.services.views.endpoint(endpoint), reveal=context.reveals)


@router.put("/endpoints/{ref}")
async def update_endpoint(ref: str, body: SpecIn, context: Caller) -> Changed:
    """Replace the spec. Workers are replaced when what they run has changed."""
    endpoint = await context.endpoint(ref)
    changed, operation = await context.services.endpoints.update(context.principal, endpoint.id, body.to_spec())
    return _changed(context, changed, operation)


@router.delete("/endpoints/{ref}", status_code=202)
async def delete_endpoint(ref: str, context: Caller) -> Changed:
    """Drain its workers, then forget it."""
    endpoint = await context.endpoint(ref)
    return _changed(context, *await context.services.endpoints.delete(context.principal, endpoint.id))

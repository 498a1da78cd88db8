"""API keys."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from stoker.api.once import OnceRoute
from stoker.api.routes.context import Admin, Cursor, Limit, after_of, cursor_of
from stoker.api.wire.base import Page
from stoker.api.wire.keys import KeyIn, KeyMade, KeyOut
from stoker.domain.endpoint import EndpointId

router = APIRouter(route_class=OnceRoute, tags=["keys"])


@router.post("/keys", status_code=201)
async def create_key(body: KeyIn, context: Admin) -> KeyMade:
    """Make a key. Its secret is in this answer and nowhere else."""
    endpoints: frozenset[EndpointId] | None = None
    if body.endpoints is not None:
        endpoints = frozenset([(await context.endpoint(reference)).id for reference in body.endpoints])
    key, secret = await context.services.keys.create(
        context.principal.project,
        name=body.name,
        scopes=body.scopes,
        endpoints=endpoints,
        expires_in_s=body.expires_in_s,
        granted_by=context.principal,
    )
    return KeyMade(key=KeyOut.of(key), secret=secret)


@router.get("/keys")
async def list_keys(context: Admin, limit: Limit = 100, cursor: Cursor = None) -> Page[KeyOut]:
    """The project's keys that are not revoked, oldest first."""
    keys, last = await context.services.views.keys(context.principal, after=after_of(cursor), limit=limit)
    return Page(items=[KeyOut.of(key) for key in keys], next=cursor_of(last))


@router.delete("/keys/{ref}", status_code=204)
async def revoke_key(ref: str, context: Admin) -> Response:
    """Make a key useless at once, by id or number."""
    await context.services.keys.revoke(ref, project=context.principal.project)
    return Response(status_code=204)

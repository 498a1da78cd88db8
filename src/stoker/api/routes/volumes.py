"""Volumes: data that outlives workers and endpoints."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from stoker.api.once import OnceRoute
from stoker.api.routes.context import Caller, Context, Cursor, Limit, after_of, cursor_of
from stoker.api.wire.base import Page
from stoker.api.wire.volumes import VolumeIn, VolumeOut, VolumePatchIn
from stoker.domain.volumes import Volume

router = APIRouter(route_class=OnceRoute, tags=["volumes"])


def _out(context: Context, volume: Volume) -> VolumeOut:
    return VolumeOut.of(volume, context.services.volumes.use(volume))


@router.post("/volumes", status_code=201)
async def create_volume(body: VolumeIn, context: Caller) -> VolumeOut:
    """Make a volume. Endpoints refer to it by name under `volumes`."""
    made = await context.services.volumes.create(
        context.principal, name=body.name, size_gib=body.size_gib, provider=body.provider, region=body.region
    )
    return _out(context, made)


@router.get("/volumes")
async def list_volumes(context: Caller, limit: Limit = 100, cursor: Cursor = None) -> Page[VolumeOut]:
    """The project's volumes, oldest first."""
    found, last = await context.services.volumes.page(context.principal, after=after_of(cursor), limit=limit)
    return Page(items=[_out(context, volume) for volume in found], next=cursor_of(last))


@router.get("/volumes/{ref}")
async def get_volume(ref: str, context: Caller) -> VolumeOut:
    """A volume by id, number or name."""
    return _out(context, await context.services.volumes.get(context.principal, ref))


@router.patch("/volumes/{ref}")
async def resize_volume(ref: str, body: VolumePatchIn, context: Caller) -> VolumeOut:
    """Let it hold more, or less; what is in it stays."""
    return _out(context, await context.services.volumes.resize(context.principal, ref, body.size_gib))


@router.delete("/volumes/{ref}", status_code=204)
async def delete_volume(ref: str, context: Caller) -> Response:
    """Remove it with all that is in it; refused while an endpoint uses it."""
    await context.services.volumes.delete(context.principal, ref)
    return Response(status_code=204)

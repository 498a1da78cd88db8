"""The installation: engines, and itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse

from stoker.api import schema
from stoker.api.once import OnceRoute
from stoker.api.routes.context import Caller
from stoker.api.wire.base import Page, iso
from stoker.api.wire.installation import GatewayOut, InfoOut, ParameterOut

router = APIRouter(route_class=OnceRoute, tags=["installation"])


@router.get("/info")
async def get_info(context: Caller) -> InfoOut:
    """Version, address, and whether the parts are there."""
    info = context.services.views.info()
    return InfoOut(
        version=info.version,
        url=info.url,
        data_dir=info.data_dir,
        started_at=iso(info.started_at),
        gateway=GatewayOut(connected=info.gateway_connected, uptime_s=info.gateway_uptime_s),
        endpoints=info.endpoints,
        workers=info.workers,
    )


@router.get("/schema", response_class=JSONResponse)
async def get_schema(context: Caller) -> JSONResponse:
    """The JSON Schema of the endpoint document."""
    return JSONResponse(schema.document(), media_type=schema.MEDIA_TYPE)


@router.get("/engines")
async def list_engines(context: Caller) -> Page[str]:
    """The engines there are."""
    return Page(items=list(context.services.views.engines()))


@router.get("/engines/{name}/parameters")
async def list_parameters(
    name: str, context: Caller, version: Annotated[str | None, Query(max_length=64)] = None
) -> Page[ParameterOut]:
    """What an engine's server takes, in that version."""
    return Page(
        items=[
            ParameterOut(
                name=p.name,
                flags=list(p.flags),
                type=p.type,
                default=p.default,
                allowed=list(p.allowed),
                section=p.section,
                description=p.description,
            )
            for p in context.services.views.parameters(name, version)
        ]
    )

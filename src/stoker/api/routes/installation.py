"""The installation: hardware, models, engines, and itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from stoker.api import wire
from stoker.api.once import OnceRoute
from stoker.api.routes.context import Reader

router = APIRouter(route_class=OnceRoute, tags=["installation"])


@router.get("/info")
async def get_info(context: Reader) -> wire.InfoOut:
    """Version, address, and whether the parts are there."""
    info = context.services.views.info()
    return wire.InfoOut(
        version=info.version,
        url=info.url,
        data_dir=info.data_dir,
        started_at=wire.iso(info.started_at),
        gateway=wire.GatewayOut(connected=info.gateway_connected, uptime_s=info.gateway_uptime_s),
        endpoints=info.endpoints,
        workers=info.workers,
    )


@router.get("/hardware")
async def list_hardware(context: Reader) -> wire.HardwareOut:
    """All hosts, with what workers hold of them."""
    return wire.HardwareOut(offers=[wire.OfferOut.of(view) for view in context.services.views.hosts()])


@router.get("/models")
async def list_models(context: Reader) -> wire.Page[wire.ModelOut]:
    """The models that have a name here."""
    return wire.Page(
        items=[
            wire.ModelOut(name=m.name, aliases=list(m.aliases), path=m.path, available=m.available)
            for m in context.services.views.models()
        ]
    )


@router.get("/engines")
async def list_engines(context: Reader) -> wire.Page[str]:
    """The engines there are."""
    return wire.Page(items=list(context.services.views.engines()))


@router.get("/engines/{name}/parameters")
async def list_parameters(
    name: str, context: Reader, version: Annotated[str | None, Query(max_length=64)] = None
) -> wire.Page[wire.ParameterOut]:
    """What an engine's server takes, in that version."""
    return wire.Page(
        items=[
            wire.ParameterOut(
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

"""Hardware: hosts with what is free and used, and the instance types that they make."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from stoker.api.once import OnceRoute
from stoker.api.routes.context import Caller
from stoker.api.wire.base import Page
from stoker.api.wire.hardware import HardwareOut, InstanceTypeOut, OfferOut
from stoker.domain.gpus import recognise
from stoker.domain.hardware import HardwareRequest

router = APIRouter(route_class=OnceRoute, tags=["hardware"])
Amount = Annotated[float | None, Query(gt=0, le=100_000)]


# Not a plain function: the framework would run it in a thread.
async def wanted(
    gpu_family: Annotated[list[str] | None, Query(max_length=16)] = None,
    gpu_count: Annotated[int, Query(ge=0, le=64)] = 0,
    vram_gib_min: Amount = None,
    vcpu: Amount = None,
    ram_gib: Amount = None,
    disk_gib: Amount = None,
    region: Annotated[str | None, Query(min_length=1, max_length=64)] = None,
    price_max: Amount = None,
) -> HardwareRequest:
    """What is looked for, as in a pool's hardware; a family or memory of cards asks for at least one card."""
    named = [recognise(name) for name in gpu_family or ()]
    sizes = [float(each.vram_gib) for each in named if each.vram_gib is not None]
    count = gpu_count or max((each.count or 1 for each in named), default=1 if vram_gib_min else 0)
    return HardwareRequest(
        gpu_family=tuple(each.family for each in named),
        gpu_count=count,
        vram_gib_min=vram_gib_min or (min(sizes) if sizes else None),
        vcpu=vcpu,
        ram_gib=ram_gib,
        disk_gib=disk_gib,
        region=region,
        price_max=price_max,
    )


Wanted = Annotated[HardwareRequest, Depends(wanted)]


@router.get("/hardware")
async def list_hardware(context: Caller, wanted: Wanted) -> HardwareOut:
    """The hosts that could run what is asked for when they are empty (all, when nothing is), what is free of them, what
    is used and by whom, and how many more such workers have room."""
    views = context.services.views
    return HardwareOut(
        offers=[OfferOut.of(view) for view in views.hosts(context.principal, wanted)], regions=dict(views.regions)
    )


@router.get("/hardware/types")
async def list_instance_types(context: Caller, wanted: Wanted) -> Page[InstanceTypeOut]:
    """The instance types there are: families of cards times numbers of them that one host has."""
    return Page(items=[InstanceTypeOut.of(view) for view in context.services.views.instance_types(wanted)])

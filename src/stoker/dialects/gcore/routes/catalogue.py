"""What there is to choose from: flavors, and how much of each is free."""

from __future__ import annotations

from fastapi import APIRouter

from stoker.dialects.gcore.caller import PAGE_ITEMS_MAX, Anywhere, KeyedRoute, Limit, Offset
from stoker.dialects.gcore.flavors import Flavor, flavors
from stoker.dialects.gcore.wire.base import Page, Wire
from stoker.domain.errors import NotFound

router = APIRouter(route_class=KeyedRoute, tags=["catalogue"])


class FlavorOut(Wire):
    cpu: float
    description: str
    gpu: int
    gpu_compute_capability: str
    gpu_memory: float
    gpu_model: str
    is_gpu_shared: bool
    memory: float
    name: str


class FreeOut(Wire):
    capacity: int
    flavor_name: str


class CapacityOut(Wire):
    capacity: list[FreeOut]
    region_id: int


def _shown(flavor: Flavor) -> FlavorOut:
    return FlavorOut(
        cpu=flavor.vcpu,
        description=flavor.description,
        gpu=flavor.gpus,
        # Nobody asks the cards here.
        gpu_compute_capability="",
        gpu_memory=flavor.vram_gib,
        gpu_model=flavor.family,
        is_gpu_shared=False,
        memory=flavor.ram_gib,
        name=flavor.name,
    )


@router.get("/v3/inference/flavors", operation_id="list-flavors")
async def list_flavors(context: Anywhere, limit: Limit = PAGE_ITEMS_MAX, offset: Offset = 0) -> Page[FlavorOut]:
    """The sizes that machines here have."""
    found = [_shown(flavor) for flavor in flavors(context.services, context.principal)]
    return Page.of(found, limit=limit, offset=offset)


@router.get("/v3/inference/flavors/{flavor_name}", operation_id="get-flavor")
async def get_flavor(flavor_name: str, context: Anywhere) -> FlavorOut:
    """A size by name."""
    for flavor in flavors(context.services, context.principal):
        if flavor.name == flavor_name:
            return _shown(flavor)
    raise NotFound(f"no flavor {flavor_name[:64]!r}")


@router.get("/v3/inference/capacity", operation_id="get-capacity")
async def get_capacity(context: Anywhere) -> Page[CapacityOut]:
    """How many more workers of each size have room, by region."""
    free: dict[int, list[FreeOut]] = {number: [] for number in context.services.views.regions.values()}
    for flavor in flavors(context.services, context.principal):
        for region, count in flavor.free:
            free[region].append(FreeOut(capacity=count, flavor_name=flavor.name))
    found = [CapacityOut(capacity=each, region_id=region) for region, each in sorted(free.items())]
    return Page.of(found, limit=PAGE_ITEMS_MAX, offset=0)

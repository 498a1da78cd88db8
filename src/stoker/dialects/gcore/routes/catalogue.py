"""What there is to choose from: flavors, how much of each is free, models, and what things would cost."""

from __future__ import annotations

from typing import Literal
from uuid import NAMESPACE_URL, uuid5

from fastapi import APIRouter

from stoker.dialects.gcore.caller import PAGE_ITEMS_MAX, Anywhere, Context, KeyedRoute, Limit, Offset
from stoker.dialects.gcore.flavors import Flavor, Place, flavors, place_of
from stoker.dialects.gcore.mapping import image_of
from stoker.dialects.gcore.wire.base import Page
from stoker.dialects.gcore.wire.catalogue import (
    CapacityOut,
    FlavorOut,
    FreeOut,
    ModelOut,
    PricedDeploymentIn,
    PriceOut,
)
from stoker.domain.errors import Invalid, NotFound
from stoker.domain.models import ModelView

router = APIRouter(route_class=KeyedRoute, tags=["catalogue"])

# What an engine's image listens on by custom; any other will do.
PORT = 80
_PAGE = 500


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


# Models


async def _models(context: Context) -> list[ModelOut]:
    found: list[ModelView] = []
    after: int | None = 0
    while after is not None:
        page, after = await context.services.models.page(context.principal, after=after, limit=_PAGE)
        found += page
    return [_model(view) for view in found]


def _model(view: ModelView) -> ModelOut:
    here = "on this host" if view.available else "fetched when it is first deployed"
    return ModelOut(
        # Those of the installation have no id of their own.
        id=str(view.model.id) if view.model is not None else str(uuid5(NAMESPACE_URL, f"stoker:model:{view.name}")),
        name=view.name,
        description=f"{view.name}: {here}",
        image_url=image_of(view.name),
        port=PORT,
        model_id=view.name,
        openai_compatibility="partial",
    )


@router.get("/v3/inference/models", operation_id="list-models")
async def list_models(
    context: Anywhere,
    limit: Limit = PAGE_ITEMS_MAX,
    offset: Offset = 0,
    order_by: Literal["name.asc", "name.desc"] = "name.asc",
) -> Page[ModelOut]:
    """The models of the catalogue, each with the image that a deployment of it asks for."""
    found = sorted(await _models(context), key=lambda each: each.name, reverse=order_by == "name.desc")
    return Page.of(found, limit=limit, offset=offset)


@router.get("/v3/inference/models/{model_id}", operation_id="get-model")
async def get_model(model_id: str, context: Anywhere) -> ModelOut:
    """A model by id."""
    for each in await _models(context):
        if each.id == model_id:
            return each
    raise NotFound(f"no model {model_id[:64]!r}")


# Prices


def check_regions(place: Place, flavor: Flavor, regions: list[int], where: str) -> None:
    """Raises `Invalid` for a region that is not there, or does not have the flavor."""
    for index, region in enumerate(regions):
        if region not in place.regions:
            raise Invalid.at(where.format(index), f"no region {region}")
        if flavor.provider(region) is None:
            raise Invalid.at(where.format(index), f"there is no {flavor.name} in the region {region}")


@router.post("/v2/pricing/inference/deployments", operation_id="preview-deployment-price")
async def preview_deployment_price(body: PricedDeploymentIn, context: Anywhere) -> PriceOut:
    """No price: machines of one's own send no bill. What could not be deployed is refused."""
    place = place_of(context.services, context.principal)
    regions = [container.region_id for container in body.containers]
    check_regions(place, place.flavor(body.flavor_name), regions, "/containers/{}/region_id")
    return PriceOut()

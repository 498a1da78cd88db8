"""Types of cards, where they are, and what could be had of them."""

from __future__ import annotations

from fastapi import APIRouter

from stoker.dialects.yotta.caller import Caller, Context, KeyedRoute
from stoker.dialects.yotta.wire.base import Envelope, told, type_of
from stoker.dialects.yotta.wire.catalogue import OfferOut, RegionOut, SearchIn, TypeOut
from stoker.domain.gpus import find, recognise
from stoker.domain.hardware import HardwareRequest
from stoker.domain.views import InstanceTypeView

router = APIRouter(route_class=KeyedRoute, tags=["catalogue"])
# At another address than all the rest.
search = APIRouter(route_class=KeyedRoute, tags=["catalogue"])


def _types(context: Context) -> tuple[InstanceTypeView, ...]:
    return context.services.views.instance_types(HardwareRequest())


@router.get("/vms/types", operation_id="list-types")
async def list_types(context: Caller) -> Envelope[list[TypeOut]]:
    """The types of cards that machines here have, by region."""
    regions: dict[str, dict[str, RegionOut]] = {}
    for view in _types(context):
        if view.type.count == 1:
            name, region = type_of(view.type.family, view.type.vram_gib), view.type.region
            known = regions.setdefault(name, {})
            free = view.type.free > 0 or (region in known and known[region].available)
            number = view.region_number or 0
            known[region] = RegionOut(region=region, region_name=region, available=free, vm_type_id=number)
    return told("Success", [TypeOut(gpu_type=name, regions=list(of.values())) for name, of in regions.items()])


@search.post("/api/v2/resource/gpu/list", operation_id="search-gpus")
async def search_gpus(body: SearchIn, context: Caller) -> Envelope[list[OfferOut]]:
    """Offers of one card, or of several on one machine."""
    families = {recognise(name).family for name in body.gpu_types or ()}
    found = [
        _offer(view)
        for view in _types(context)
        if (view.type.count == 1) == (body.query_type == 1)
        and (not body.regions or view.type.region in body.regions)
        and (not families or view.type.family in families)
    ]
    return told("Success", [offer for offer in found if _fits(offer, body)])


def _fits(offer: OfferOut, body: SearchIn) -> bool:
    vram, ram = offer.single_card_vram_in_gb, offer.single_card_ram_in_gb
    return (
        (body.min_single_card_vram_in_gb or 0) <= vram
        and (body.max_single_card_vram_in_gb is None or vram <= body.max_single_card_vram_in_gb)
        and (body.min_single_card_ram_in_gb or 0) <= ram
        and (body.max_single_card_ram_in_gb is None or ram <= body.max_single_card_ram_in_gb)
    )


def _offer(view: InstanceTypeView) -> OfferOut:
    each, known = view.type, find(view.type.family)
    return OfferOut(
        gpu_type=type_of(each.family, each.vram_gib),
        display_name=each.family if known is None else f"{known.vendor} {known.label}",
        single_card_vram_in_gb=each.vram_gib,
        single_card_ram_in_gb=each.ram_gib / each.count,
        single_card_vcpu=each.vcpu / each.count,
        gpu_count=each.count,
        region=each.region,
        regions=[each.region],
        available=each.free > 0,
        price=each.price,
    )

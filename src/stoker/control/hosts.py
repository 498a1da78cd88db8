"""The hosts as they are shown: what each has, how much is free, who holds it, and what would fit. Changes nothing.

Called by `stoker.control.views`. Endpoints of other projects are counted and not named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from stoker.control.fleet import Fleet
from stoker.control.managed import Managed, Providers
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, visible
from stoker.domain.hardware import HardwareRequest, Offer, Placement
from stoker.domain.views import Holder, HostView, InstanceTypeView
from stoker.domain.worker import Worker
from stoker.policy.instances import instance_types
from stoker.policy.placement import capacity, missing

# More of one worker on one host than anybody asks for; counting them takes time.
FITS_MAX = 100


def hosts(
    fleet: Fleet,
    providers: Providers,
    principal: Principal,
    wanted: HardwareRequest,
    regions: Mapping[str, int],
    *,
    now: float,
) -> tuple[HostView, ...]:
    """The hosts that could run a worker of `wanted` when they are empty, by provider and name."""
    return tuple(
        _host(fleet, managed, offer, principal, wanted, regions, now=now)
        for managed in providers.all()
        for offer in sorted(managed.offers, key=lambda offer: offer.host)
        if not missing(wanted, offer, (), ports=0)
    )


def _host(
    fleet: Fleet,
    managed: Managed,
    offer: Offer,
    principal: Principal,
    wanted: HardwareRequest,
    regions: Mapping[str, int],
    *,
    now: float,
) -> HostView:
    held = [placement for placement in fleet.placements(managed.name, now=now) if placement.host == offer.host]
    here = [(w, w.placement) for w in fleet.all_workers() if not w.gone and w.provider == managed.name and w.placement]
    here = [(worker, placement) for worker, placement in here if placement.host == offer.host]
    holders = tuple(
        holder for worker, placement in here if (holder := _holder(fleet, worker, placement, principal)) is not None
    )
    return HostView(
        provider=managed.name,
        offer=offer,
        region_number=regions.get(offer.region),
        vcpu_used=math.fsum(placement.vcpu or 0.0 for placement in held),
        ram_gib_used=math.fsum(placement.ram_gib or 0.0 for placement in held),
        disk_gib_used=math.fsum(placement.disk_gib or 0.0 for placement in held),
        gpus_used=tuple(sorted(gpu for placement in held for gpu in placement.gpus)),
        workers=len(here),
        holders=tuple(sorted(holders, key=lambda holder: holder.worker)),
        fits=capacity(wanted, [offer], held, most=FITS_MAX),
        lacks=tuple(lack.text for lack in missing(wanted, offer, held, ports=0)),
    )


def _holder(fleet: Fleet, worker: Worker, placement: Placement, principal: Principal) -> Holder | None:
    """Who holds this, for those who may know."""
    endpoint = fleet.endpoint(worker.endpoint)
    if endpoint is None or endpoint.project != principal.project:
        return None
    if not visible(principal, Action.ENDPOINT_READ, project=endpoint.project, endpoint=endpoint.id):
        return None
    held = placement.held
    return Holder(
        endpoint=endpoint.slug,
        worker=worker.number,
        state=worker.state,
        gpus=held.gpus,
        vcpu=held.vcpu,
        ram_gib=held.ram_gib,
        price=placement.price,
    )


def types(
    fleet: Fleet, providers: Providers, wanted: HardwareRequest, regions: Mapping[str, int], *, now: float
) -> tuple[InstanceTypeView, ...]:
    """The instance types of every provider that have what `wanted` asks for; at least as many cards."""
    return tuple(
        InstanceTypeView(provider=managed.name, region_number=regions.get(each.region), type=each)
        for managed in providers.all()
        for each in instance_types(managed.offers, fleet.placements(managed.name, now=now))
        if wanted.region in (None, each.region)
        and (not wanted.families or each.family in wanted.families)
        and each.count >= wanted.gpu_count
        and each.vram_gib >= (wanted.vram_gib_min or 0)
        and each.vcpu >= (wanted.vcpu_all or 0)
        and each.ram_gib >= (wanted.ram_gib_all or 0)
        and (wanted.price_max is None or (each.price is not None and each.price <= wanted.price_max))
    )

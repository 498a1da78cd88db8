"""Where an endpoint's workers may run: resources and minima for each card as hardware, and hardware as resources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel, ValidationError

from stoker.dialects.yotta.wire.base import type_of
from stoker.dialects.yotta.wire.endpoints import CPU, VOLUME_GB_MIN, EndpointIn, EndpointPatch, Resource
from stoker.domain.endpoint import EndpointSpec, PoolSpec, ScaleBounds
from stoker.domain.errors import Invalid
from stoker.domain.gpus import recognise
from stoker.domain.hardware import DEFAULT_REGION, HardwareRequest
from stoker.domain.scaling import ScalingPolicy, Schedule

PLACEMENT = "yotta/placement"
ANY = "ANY"
_MINIMA = ("min_single_card_vram_in_gb", "min_single_card_vcpu", "min_single_card_ram_in_gb")
# A window that opens every day and closes on the day on which it opens again: so many workers, wherever they are.
_DAILY, _YEARLY = "0 0 * * *", "0 0 1 1 *"


class Placement(BaseModel):
    """What was said about machines; kept with the endpoint, since hardware alone does not tell how."""

    resources: list[Resource]
    min_single_card_vram_in_gb: int | None = None
    min_single_card_vcpu: int | None = None
    min_single_card_ram_in_gb: int | None = None
    container_volume_in_gb: int = VOLUME_GB_MIN

    def changed(self, patch: EndpointPatch) -> Placement:
        """With what the patch says of it; null clears a minimum."""
        said = {name: getattr(patch, name) for name in _MINIMA if name in patch.said}
        for name in ("resources", "container_volume_in_gb"):
            if (value := getattr(patch, name)) is not None:
                said[name] = value
        return self.model_copy(update=said)

    def hardware(self) -> tuple[HardwareRequest, ...]:
        """What a worker needs, for each region in the order of trying. Raises `Invalid`."""
        if len({each.gpu_count for each in self.resources}) > 1:
            raise Invalid.at("/resources", "all resources must have the same gpuCount")
        regions = dict.fromkeys(each.region for each in self.resources)
        return tuple(self._in(region) for region in regions)

    def _in(self, region: str) -> HardwareRequest:
        here = [each for each in self.resources if each.region == region]
        vcpu, ram = self.min_single_card_vcpu or None, self.min_single_card_ram_in_gb or None
        disk = float(self.container_volume_in_gb)
        if here[0].gpu_count == 0:
            return HardwareRequest(vcpu=vcpu, ram_gib=ram, disk_gib=disk, region=region)
        named = [recognise(each.gpu_type) for each in here]
        stated = [each.vram_gib for each in named if each.vram_gib is not None]
        of_type = min(stated) if len(stated) == len(named) else 0
        vram = max(of_type, self.min_single_card_vram_in_gb or 0)
        return HardwareRequest(
            gpu_family=tuple(each.family for each in named),
            gpu_count=here[0].gpu_count,
            vram_gib_min=float(vram) if vram else None,
            vcpu_per_gpu=vcpu,
            ram_gib_per_gpu=ram,
            disk_gib=disk,
            region=region,
        )


def placement_in(body: EndpointIn) -> Placement:
    """What a new endpoint says of it."""
    minima = {name: getattr(body, name) for name in _MINIMA}
    return Placement(resources=body.resources, container_volume_in_gb=body.container_volume_in_gb, **minima)


def placement_of(spec: EndpointSpec) -> Placement:
    """As it was said, where the hardware is still that; else computed from the hardware."""
    hardware = tuple(pool.hardware for pool in spec.pools)
    try:
        kept = Placement.model_validate_json(spec.annotations.get(PLACEMENT, ""))
        if kept.hardware() == hardware:
            return kept
    except (ValidationError, Invalid):
        # Somebody else wrote it.
        pass
    first = hardware[0]
    return Placement(
        resources=[resource for each in hardware for resource in _shown(each)],
        min_single_card_vcpu=_whole(first.vcpu_per_gpu or first.vcpu),
        min_single_card_ram_in_gb=_whole(first.ram_gib_per_gpu or first.ram_gib),
        container_volume_in_gb=max(VOLUME_GB_MIN, round(first.disk_gib or 0)),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _shown(hardware: HardwareRequest) -> list[Resource]:
    region = hardware.region or DEFAULT_REGION
    if not hardware.gpu_count:
        return [Resource(region=region, gpu_type=CPU, gpu_count=0)]
    types = [type_of(family, hardware.vram_gib_min or 0) for family in hardware.families] or [ANY]
    return [Resource(region=region, gpu_type=each, gpu_count=hardware.gpu_count) for each in types]


# How many


def sized(
    spec: EndpointSpec, hardware: Sequence[HardwareRequest], providers: Sequence[str], workers: int
) -> EndpointSpec:
    """With that many workers on this hardware: all in one region, or in the first that has room."""
    if len(hardware) == 1:
        pool = replace(spec.pools[0], provider=providers[0], hardware=hardware[0])
        bounds = ScaleBounds(min=workers, max=workers)
        return replace(spec, pools=(replace(pool, bounds=bounds),), scaling=ScalingPolicy())
    pools = tuple(
        PoolSpec(name=f"resource-{index}", provider=provider, hardware=each, bounds=ScaleBounds(max=workers))
        for index, (provider, each) in enumerate(zip(providers, hardware, strict=True), 1)
    )
    return replace(spec, pools=pools, scaling=_steady(workers))


def _steady(workers: int) -> ScalingPolicy:
    if not workers:
        return ScalingPolicy()
    always = Schedule(start=_DAILY, end=_YEARLY, workers=workers)
    return ScalingPolicy(triggers=(always,), initial=workers, scale_down_delay_s=0)


def resized(spec: EndpointSpec, workers: int) -> EndpointSpec | None:
    """With that many workers: exactly, or as a maximum where its owner lets it scale. `None` where several pools scale
    in a way that was said elsewhere.
    """
    if len(spec.pools) > 1:
        if PLACEMENT not in spec.annotations:
            return None
        pools = tuple(replace(pool, bounds=ScaleBounds(max=workers)) for pool in spec.pools)
        return replace(spec, pools=pools, scaling=_steady(workers))
    bounds = spec.pools[0].bounds
    low = workers if bounds.min == bounds.max else min(bounds.min, workers)
    pool = replace(spec.pools[0], bounds=ScaleBounds(min=low, max=workers, cold=min(bounds.cold, workers)))
    return replace(spec, pools=(pool,))


def workers_of(spec: EndpointSpec) -> int:
    """How many there are to be, or may be at most."""
    if len(spec.pools) > 1 and PLACEMENT in spec.annotations:
        return max(pool.bounds.max for pool in spec.pools)
    return spec.bounds.max

"""Hardware as it is asked for and answered: hosts, and the instance types that they make. Pure."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel

from stoker.domain.gpus import find
from stoker.domain.hardware import GpuDevice
from stoker.domain.views import Holder, HostView, InstanceTypeView


class GpuOut(BaseModel):
    """One card. `vram_gib` is what its driver reports, `vram_stated_gib` what its vendor states."""

    index: int
    id: str
    family: str
    vram_gib: float
    vram_stated_gib: float
    virtual: bool

    @classmethod
    def of(cls, gpu: GpuDevice) -> Self:
        return cls(
            index=gpu.index,
            id=gpu.id,
            family=gpu.family,
            vram_gib=gpu.vram_gib,
            vram_stated_gib=gpu.stated_gib,
            virtual=gpu.virtual,
        )


class HolderOut(BaseModel):
    """One worker of the caller's project, and what it holds here."""

    endpoint: str
    worker: int
    state: str
    gpus: list[int]
    vcpu: float | None
    ram_gib: float | None
    price_per_hour: float | None

    @classmethod
    def of(cls, holder: Holder) -> Self:
        return cls(
            endpoint=holder.endpoint,
            worker=holder.worker,
            state=holder.state,
            gpus=list(holder.gpus),
            vcpu=holder.vcpu,
            ram_gib=holder.ram_gib,
            price_per_hour=holder.price,
        )


class UsedOut(BaseModel):
    """What workers hold; `workers` counts those of all projects, `by` names those of the caller's."""

    vcpu: float
    ram_gib: float
    disk_gib: float
    gpus: list[int]
    workers: int
    by: list[HolderOut]


class FreeOut(BaseModel):
    """What is left; `disk_gib` is null where nobody counts."""

    vcpu: float
    ram_gib: float
    disk_gib: float | None
    gpus: list[int]


class PricesOut(BaseModel):
    """What an hour costs: a card by family, a vCPU, a GiB of memory."""

    currency: str
    gpus: dict[str, float]
    vcpu: float | None
    ram_gib: float | None


class OfferOut(BaseModel):
    """One host, whole, and what workers hold of it. `fits` counts how many more workers of what was asked for have room
    (at most 100), `lacks` says what it has too little of for one more. `virtual` ones are pretended.
    """

    provider: str
    host: str
    region: str
    region_number: int | None
    virtual: bool
    vcpu: float
    ram_gib: float
    disk_gib: float | None
    gpus: list[GpuOut]
    driver: str | None
    prices: PricesOut | None
    used: UsedOut
    free: FreeOut
    fits: int
    lacks: list[str]
    notes: list[str]

    @classmethod
    def of(cls, view: HostView) -> Self:
        offer = view.offer
        return cls(
            provider=view.provider,
            host=offer.host,
            region=offer.region,
            region_number=view.region_number,
            virtual=offer.virtual,
            vcpu=offer.vcpu,
            ram_gib=round(offer.ram_gib, 2),
            disk_gib=None if offer.disk_gib is None else round(offer.disk_gib, 2),
            gpus=[GpuOut.of(gpu) for gpu in offer.gpus],
            driver=offer.driver,
            prices=_prices(view),
            used=UsedOut(
                vcpu=view.vcpu_used,
                ram_gib=view.ram_gib_used,
                disk_gib=view.disk_gib_used,
                gpus=list(view.gpus_used),
                workers=view.workers,
                by=[HolderOut.of(holder) for holder in view.holders],
            ),
            free=FreeOut(
                vcpu=max(0.0, offer.vcpu - view.vcpu_used),
                ram_gib=round(max(0.0, offer.ram_gib - view.ram_gib_used), 2),
                disk_gib=None if offer.disk_gib is None else round(max(0.0, offer.disk_gib - view.disk_gib_used), 2),
                gpus=[gpu.index for gpu in offer.gpus if gpu.index not in view.gpus_used],
            ),
            fits=view.fits,
            lacks=list(view.lacks),
            notes=list(offer.notes),
        )


def _prices(view: HostView) -> PricesOut | None:
    prices = view.offer.prices
    if prices is None:
        return None
    families = {gpu.family for gpu in view.offer.gpus}
    return PricesOut(
        currency=prices.currency,
        gpus={family: price for family, price in prices.gpus.items() if family in families},
        vcpu=prices.vcpu,
        ram_gib=prices.ram_gib,
    )


class HardwareOut(BaseModel):
    """`regions` has the number of each."""

    offers: list[OfferOut]
    regions: dict[str, int]


class InstanceTypeOut(BaseModel):
    """So many cards alike on one host of a region, with their share of its processors and memory. `total` of it could
    exist at once, `free` more do, by their cards alone.
    """

    provider: str
    region: str
    region_number: int | None
    family: str
    label: str
    vendor: str | None
    vram_gib: float
    count: int
    vcpu: float
    ram_gib: float
    virtual: bool
    total: int
    free: int
    price_per_hour: float | None
    currency: str | None

    @classmethod
    def of(cls, view: InstanceTypeView) -> Self:
        each, known = view.type, find(view.type.family)
        return cls(
            provider=view.provider,
            region=each.region,
            region_number=view.region_number,
            family=each.family,
            label=each.family if known is None else known.label,
            vendor=None if known is None else known.vendor,
            vram_gib=each.vram_gib,
            count=each.count,
            vcpu=round(each.vcpu, 2),
            ram_gib=round(each.ram_gib, 2),
            virtual=each.virtual,
            total=each.total,
            free=each.free,
            price_per_hour=each.price,
            currency=each.currency,
        )

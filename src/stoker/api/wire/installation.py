"""Hardware, engines and the installation as they are answered. Pure."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel

from stoker.api.wire.base import fields_of
from stoker.domain.views import HostView


class GpuOut(BaseModel):
    index: int
    id: str
    family: str
    vram_gib: float
    virtual: bool


class Used(BaseModel):
    vcpu: float
    ram_gib: float
    gpus: list[int]
    workers: int


class OfferOut(BaseModel):
    """One host, whole, and what workers hold of it."""

    provider: str
    host: str
    region: str
    vcpu: float
    ram_gib: float
    gpus: list[GpuOut]
    used: Used

    @classmethod
    def of(cls, view: HostView) -> Self:
        offer = view.offer
        return cls(
            provider=view.provider,
            host=offer.host,
            region=offer.region,
            vcpu=offer.vcpu,
            ram_gib=round(offer.ram_gib, 2),
            gpus=[GpuOut(**fields_of(gpu)) for gpu in offer.gpus],
            used=Used(
                vcpu=view.vcpu_used,
                ram_gib=view.ram_gib_used,
                gpus=list(view.gpus_used),
                workers=view.workers,
            ),
        )


class HardwareOut(BaseModel):
    offers: list[OfferOut]


class ParameterOut(BaseModel):
    name: str
    flags: list[str]
    type: str
    default: str | None
    allowed: list[str]
    section: str
    description: str


class GatewayOut(BaseModel):
    connected: bool
    uptime_s: float | None


class InfoOut(BaseModel):
    version: str
    url: str
    data_dir: str
    started_at: str | None
    gateway: GatewayOut
    endpoints: int
    workers: int

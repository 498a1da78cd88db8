"""Hosts and cards to place workers on."""

from __future__ import annotations

from stoker.domain.hardware import GpuDevice, Offer, Placement, PortRange, Prices
from stoker.policy.placement import Unplaceable


def cards(count: int, family: str = "h100", vram_gib: float = 80, *, first: int = 0) -> tuple[GpuDevice, ...]:
    return tuple(
        GpuDevice(index=first + i, id=f"GPU-{first + i}", family=family, vram_gib=vram_gib) for i in range(count)
    )


def host(
    name: str = "a",
    *,
    gpus: int = 2,
    family: str = "h100",
    ports: int = 3,
    vcpu: float = 8,
    prices: Prices | None = None,
    region: str = "local",
    disk_gib: float | None = None,
) -> Offer:
    return Offer(
        host=name,
        vcpu=vcpu,
        ram_gib=32,
        gpus=cards(gpus, family),
        ports=PortRange(20_000, 20_000 + ports - 1),
        prices=prices,
        region=region,
        disk_gib=disk_gib,
    )


def placed(found: Placement | Unplaceable) -> Placement:
    assert isinstance(found, Placement), found
    return found


def refused(found: Placement | Unplaceable) -> Unplaceable:
    assert isinstance(found, Unplaceable), found
    return found

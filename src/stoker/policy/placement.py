"""Where a worker goes: the first host with everything it asks for. Pure and deterministic; never overcommits.

Called by control inside the transaction that records the placement, so that two workers cannot be given the same card.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, Placement

# A port is not given out again for this long after the gateway has forgotten its worker: late packets and pooled
# connections of the old one must not reach the new one.
PORT_QUARANTINE_S = 60.0
# Sums of shares such as 0.1 are not exact.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Unplaceable:
    """Why nothing fits. `ever` is false when even empty hosts would not do."""

    reason: str
    ever: bool


def place(
    request: HardwareRequest, offers: Sequence[Offer], in_use: Iterable[Placement], *, port_wanted: bool
) -> Placement | Unplaceable:
    """A placement on the first host, by name, that has room beside `in_use`; else the reason, in numbers.

    `port_wanted` asks for a port of hosts whose workers share the host's addresses.
    """
    held: dict[str, list[Placement]] = {}
    for placement in in_use:
        held.setdefault(placement.host, []).append(placement)
    hosts = sorted(offers, key=lambda offer: offer.host)
    lacks: list[str] = []
    for offer in hosts:
        found = _on_host(request, offer, held.get(offer.host, []), port_wanted=port_wanted)
        if isinstance(found, Placement):
            return found
        lacks.append(f"{offer.host}: {found}")
    ever = any(isinstance(_on_host(request, offer, [], port_wanted=port_wanted), Placement) for offer in hosts)
    return Unplaceable("; ".join(lacks) if lacks else "there is no host", ever)


def regain(placement: Placement, offers: Sequence[Offer], in_use: Iterable[Placement]) -> str | None:
    """Why a cold worker cannot have back what it let go of, beside `in_use`, which has what it still holds; `None` when
    it can.
    """
    offer = next((offer for offer in offers if offer.host == placement.host), None)
    if offer is None:
        return f"its host {placement.host} is gone"
    held = [other for other in in_use if other.host == placement.host]
    if "vcpu" in placement.freed and placement.vcpu is not None:
        free = offer.vcpu - sum(p.vcpu or 0.0 for p in held)
        if placement.vcpu > free + _ROUNDING:
            return f"needs {placement.vcpu:g} vCPU, {max(0.0, free):g} of {offer.vcpu:g} free"
    if "vram" in placement.freed:
        taken = {index for other in held for index in other.gpus} & set(placement.gpus)
        if taken:
            return f"its GPU {', '.join(map(str, sorted(taken)))} is in use by another worker"
    return None


def _on_host(request: HardwareRequest, offer: Offer, held: list[Placement], *, port_wanted: bool) -> Placement | str:
    if request.vcpu is not None:
        free = offer.vcpu - sum(p.vcpu or 0.0 for p in held)
        if request.vcpu > free + _ROUNDING:
            return f"needs {request.vcpu:g} vCPU, {max(0.0, free):g} of {offer.vcpu:g} free"
    if request.ram_gib is not None:
        free = offer.ram_gib - sum(p.ram_gib or 0.0 for p in held)
        if request.ram_gib > free + _ROUNDING:
            return f"needs {request.ram_gib:g} GiB of memory, {max(0.0, free):.1f} of {offer.ram_gib:.1f} free"
    gpus = _gpus(request, offer, held)
    if isinstance(gpus, str):
        return gpus
    port = None
    if port_wanted and offer.ports is not None:
        taken = {p.port for p in held if p.port is not None}
        port = next((p for p in range(offer.ports.first, offer.ports.last + 1) if p not in taken), None)
        if port is None:
            return f"all {len(offer.ports)} ports from {offer.ports.first} to {offer.ports.last} are taken"
    return Placement(host=offer.host, gpus=gpus, vcpu=request.vcpu, ram_gib=request.ram_gib, port=port)


def _gpus(request: HardwareRequest, offer: Offer, held: list[Placement]) -> tuple[int, ...] | str:
    if request.gpu_count == 0:
        return ()
    taken = {index for placement in held for index in placement.gpus}
    suitable = [gpu for gpu in offer.gpus if _suits(request, gpu)]
    free = [gpu.index for gpu in sorted(suitable, key=lambda gpu: gpu.index) if gpu.index not in taken]
    if len(free) >= request.gpu_count:
        return tuple(free[: request.gpu_count])
    kind = f" {request.gpu_family}" if request.gpu_family else ""
    vram = f" with {request.vram_gib_min:g} GiB" if request.vram_gib_min is not None else ""
    others = len(offer.gpus) - len(suitable)
    beside = f" and {others} of other kinds" if others else ""
    cards = "card" if request.gpu_count == 1 else "cards"
    return f"needs {request.gpu_count}{kind} GPU {cards}{vram}, {len(free)} of {len(suitable)} free{beside}"


def _suits(request: HardwareRequest, gpu: GpuDevice) -> bool:
    if request.gpu_family is not None and gpu.family != request.gpu_family:
        return False
    return request.vram_gib_min is None or gpu.vram_gib + _ROUNDING >= request.vram_gib_min

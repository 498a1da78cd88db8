"""What this machine has: processors, memory and cards, as its kernel and NVML tell. Missing hardware is no error."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import pynvml

from stoker.domain.errors import Invalid
from stoker.domain.gpus import family_of, find
from stoker.domain.hardware import DEFAULT_REGION, GpuDevice, Offer, PortRange, VirtualGpus
from stoker.providers import cgroups, listeners

_GIB = 1024.0**3
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Nvml(Protocol):
    """What is used of NVIDIA's library. Every function may raise `NVMLError`."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...
    def nvmlDeviceGetUUID(self, handle: Any) -> str | bytes: ...
    def nvmlDeviceGetName(self, handle: Any) -> str | bytes: ...
    def nvmlSystemGetDriverVersion(self) -> str | bytes: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        """Something with `total` and `used`, in bytes."""

    def nvmlDeviceGetMigMode(self, handle: Any) -> Any:
        """Whether the card is split now, and after its next reset, as numbers. Fails for one that cannot be."""


def local_offer(
    ports: PortRange, nvml: Nvml = pynvml, *, region: str = DEFAULT_REGION, disk_gib: float | None = None
) -> Offer:
    """This machine, whole, with the part of `ports` that the kernel does not use for outgoing connections. A card that
    does not answer, or that is split by MIG, is left out and noted. Raises `Invalid` when no port is left.
    """
    cards = _cards(nvml)
    ports = outside_ephemeral(ports, _ephemeral())
    return Offer(
        host=socket.gethostname(),
        vcpu=_vcpu(),
        ram_gib=_ram_gib(),
        gpus=cards.gpus,
        ports=ports,
        ports_busy=frozenset(port for port, _ in listeners.listening() if ports.first <= port <= ports.last),
        region=region,
        disk_gib=disk_gib,
        driver=cards.driver,
        notes=cards.notes,
    )


def virtual_offers(local: Offer, wanted: Iterable[VirtualGpus]) -> tuple[Offer, ...]:
    """Pretended parts of this machine, one for each entry, that share its addresses."""
    seen: Counter[str] = Counter()
    offers = []
    for each in wanted:
        seen[each.family] += 1
        number = f"-{seen[each.family]}" if seen[each.family] > 1 else ""
        known = find(each.family)
        vram = each.vram_gib or float(known.vram_gib[-1] if known is not None else 0.0)
        disk = None if each.disk_gib is None else each.disk_gib * each.count
        offers.append(
            Offer(
                host=f"{local.machine}/{each.family}{number}",
                vcpu=each.vcpu * each.count,
                ram_gib=each.ram_gib * each.count,
                gpus=tuple(
                    GpuDevice(index, str(index), each.family, vram, virtual=True) for index in range(each.count)
                ),
                ports=local.ports,
                ports_busy=local.ports_busy,
                region=each.region,
                disk_gib=disk,
                virtual=True,
            )
        )
    return tuple(offers)


def outside_ephemeral(ports: PortRange, ephemeral: PortRange | None) -> PortRange:
    """The larger part of `ports` outside the ephemeral range. Raises `Invalid` when nothing is left of it."""
    if ephemeral is None or ports.last < ephemeral.first or ports.first > ephemeral.last:
        return ports
    # As pairs, since a range cannot be empty.
    below = (ports.first, min(ports.last, ephemeral.first - 1))
    above = (max(ports.first, ephemeral.last + 1), ports.last)
    first, last = max(below, above, key=lambda part: part[1] - part[0])
    if first > last:
        raise Invalid(
            f"worker_ports {ports.first}-{ports.last} lie within the kernel's own range for outgoing connections, "
            f"{ephemeral.first}-{ephemeral.last}; choose ports outside of it"
        )
    return PortRange(first, last)


def _ephemeral() -> PortRange | None:
    try:
        first, last = _EPHEMERAL.read_text().split()
    except (OSError, ValueError):
        return None
    return PortRange(int(first), int(last))


def _vcpu() -> float:
    cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    limit = cgroups.cpus()
    return cpus if limit is None else min(cpus, limit)


def _ram_gib() -> float:
    total: int = psutil.virtual_memory().total
    limit = cgroups.memory_bytes()
    return (total if limit is None else min(total, limit)) / _GIB


@dataclass(frozen=True, slots=True)
class _Cards:
    gpus: tuple[GpuDevice, ...] = ()
    driver: str | None = None
    notes: tuple[str, ...] = ()


def _cards(nvml: Nvml) -> _Cards:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        # No driver, or none that answers: no cards.
        return _Cards()
    try:
        found = [_card(index, nvml) for index in range(nvml.nvmlDeviceGetCount())]
        return _Cards(
            gpus=tuple(card for card in found if isinstance(card, GpuDevice)),
            driver=text_of(nvml.nvmlSystemGetDriverVersion()),
            notes=tuple(card for card in found if isinstance(card, str)),
        )
    except nvml.NVMLError as exc:
        return _Cards(notes=(f"the driver does not list its cards: {exc}",))
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _card(index: int, nvml: Nvml) -> GpuDevice | str:
    """The card, or why it cannot be used."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        family = family_of(text_of(nvml.nvmlDeviceGetName(handle)))
        if _split(handle, nvml):
            return f"card {index} ({family}) is split by MIG, which is not supported: whole cards only"
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return GpuDevice(
            index=index,
            id=text_of(nvml.nvmlDeviceGetUUID(handle)),
            family=family,
            vram_gib=round(memory.total / _GIB, 1),
        )
    except nvml.NVMLError as exc:
        # One that has fallen off its bus must not take the others with it.
        return f"card {index} does not answer: {exc}"


def _split(handle: Any, nvml: Nvml) -> bool:
    try:
        present, _after_reset = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:
        # Most cards cannot be split, and say so by failing.
        return False
    return bool(present)


def text_of(value: str | bytes) -> str:
    """What NVML says, which is bytes in its older versions."""
    return value.decode() if isinstance(value, bytes) else value

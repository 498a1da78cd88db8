"""What this machine has: processors, memory and cards, as its kernel and NVML tell. Missing hardware is no error."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Any, Protocol

import psutil
import pynvml

from stoker.domain.errors import Invalid
from stoker.domain.hardware import GpuDevice, Offer, PortRange, family_of

_GIB = 1024.0**3
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Where a container's memory limit stands, in the second and the first version of control groups.
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


class Nvml(Protocol):
    """What is used of NVIDIA's library. Every function may raise `NVMLError`."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...
    def nvmlDeviceGetUUID(self, handle: Any) -> str | bytes: ...
    def nvmlDeviceGetName(self, handle: Any) -> str | bytes: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        """Something with `total` and `used`, in bytes."""


def local_offer(ports: PortRange, nvml: Nvml = pynvml) -> Offer:
    """This machine, whole, with the part of `ports` that the kernel does not use for outgoing connections. A card that
    does not answer is left out. Raises `Invalid` when no port is left.
    """
    return Offer(
        host=socket.gethostname(),
        vcpu=_vcpu(),
        ram_gib=_ram_gib(),
        gpus=_gpus(nvml),
        ports=outside_ephemeral(ports, _ephemeral()),
    )


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
    try:
        quota, period = _CPU_LIMIT.read_text().split()
        return cpus if quota == "max" else min(cpus, int(quota) / int(period))
    except (OSError, ValueError):
        return cpus


def _ram_gib() -> float:
    total = psutil.virtual_memory().total
    for path in _MEMORY_LIMITS:
        try:
            total = min(total, int(path.read_text()))
        except (OSError, ValueError):
            continue
    return total / _GIB


def _gpus(nvml: Nvml) -> tuple[GpuDevice, ...]:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        # No driver, or none that answers: no cards.
        return ()
    try:
        found = (_gpu(index, nvml) for index in range(nvml.nvmlDeviceGetCount()))
        return tuple(gpu for gpu in found if gpu is not None)
    except nvml.NVMLError:
        return ()
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _gpu(index: int, nvml: Nvml) -> GpuDevice | None:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return GpuDevice(
            index=index,
            id=text_of(nvml.nvmlDeviceGetUUID(handle)),
            family=family_of(text_of(nvml.nvmlDeviceGetName(handle))),
            vram_gib=round(memory.total / _GIB, 1),
        )
    except nvml.NVMLError:
        # One that has fallen off its bus must not take the others with it.
        return None


def text_of(value: str | bytes) -> str:
    """What NVML says, which is bytes in its older versions."""
    return value.decode() if isinstance(value, bytes) else value

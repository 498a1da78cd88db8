"""What processes of this machine take of it: processor time and memory of whole trees, and what NVML says of cards."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import psutil
import pynvml

from stoker.domain.measurements import GpuLoad, Taken
from stoker.domain.worker import WorkerId
from stoker.providers.inventory import Nvml, text_of


class BusyNvml(Nvml, Protocol):
    """NVIDIA's library, with what else is used of it here."""

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        """Something with a `gpu`, in per cent."""


def taken(
    roots: Mapping[WorkerId, int], cards: Mapping[WorkerId, Collection[str]], nvml: BusyNvml = pynvml
) -> dict[WorkerId, Taken]:
    """What each worker takes, of which the process tree below its root counts, and its cards by their ids. Workers of
    which nothing runs are left out.
    """
    children = _children()
    wanted = {card for worker in roots for card in cards.get(worker, ())}
    loads = _loads(wanted, nvml) if wanted else {}
    found: dict[WorkerId, Taken] = {}
    for worker, root in roots.items():
        counted = _tree(root, children)
        if counted is not None:
            gpus = tuple(loads[card] for card in cards.get(worker, ()) if card in loads)
            found[worker] = Taken(cpu_s=counted[0], memory_bytes=counted[1], gpus=gpus)
    return found


def _children() -> dict[int, list[int]]:
    """All processes by their parents, in one look for all workers."""
    children: dict[int, list[int]] = {}
    for process in psutil.process_iter(["ppid"]):
        children.setdefault(process.info["ppid"], []).append(process.pid)
    return children


def _tree(root: int, children: Mapping[int, list[int]]) -> tuple[float, int] | None:
    """CPU seconds and resident bytes of everything below the root; `None` when there is nothing."""
    below = list(children.get(root, ()))
    for pid in below:
        below.extend(children.get(pid, ()))
    cpu_s, memory, alive = 0.0, 0, False
    for pid in below:
        # One that ends in between counts for nothing.
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process = psutil.Process(pid)
            times = process.cpu_times()
            cpu_s += times.user + times.system + times.children_user + times.children_system
            memory += process.memory_info().rss
            alive = True
    return (cpu_s, memory) if alive else None


def _loads(wanted: Collection[str], nvml: BusyNvml) -> dict[str, GpuLoad]:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return {}
    found: dict[str, GpuLoad] = {}
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            # A card that does not answer must not take the others with it.
            with contextlib.suppress(nvml.NVMLError):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                card = text_of(nvml.nvmlDeviceGetUUID(handle))
                if card in wanted:
                    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                    busy, memory_busy = _utilization(handle, nvml)
                    found[card] = GpuLoad(
                        id=card,
                        utilization=busy,
                        memory_bytes=int(memory.used),
                        memory_total_bytes=int(memory.total),
                        memory_utilization=memory_busy,
                    )
    except nvml.NVMLError:
        return found
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
    return found


def _utilization(handle: object, nvml: BusyNvml) -> tuple[float | None, float | None]:
    """How long card and memory were busy, between 0 and 1; `None` where the card does not say, as parts of a divided
    one do not.
    """
    try:
        rates = nvml.nvmlDeviceGetUtilizationRates(handle)
        return float(rates.gpu) / 100, float(rates.memory) / 100
    except nvml.NVMLError:
        return None, None

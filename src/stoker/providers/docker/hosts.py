"""The daemon's host: what it offers."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stoker.domain.errors import Invalid
from stoker.domain.gpus import family_of, find
from stoker.domain.hardware import GpuDevice, Offer
from stoker.providers import inventory
from stoker.providers.docker.options import DockerOptions

_GIB = 1024.0**3


def offer(info: Mapping[str, Any], options: DockerOptions) -> Offer:
    """The host as the daemon describes it; the cards of this machine as its driver does, those of another as the
    settings do.
    """
    ports = options.ports if options.published else None
    notes: list[str] = []
    driver, gpus, disk = None, _stated(options), None
    if options.local:
        # The larger part of these ports that the kernel does not use by itself.
        own = inventory.local_offer(options.ports)
        ports = own.ports if options.published else None
        gpus, driver = gpus or own.gpus, own.driver
        notes += own.notes
        with contextlib.suppress(OSError, KeyError):
            disk = shutil.disk_usage(Path(info["DockerRootDir"])).free / _GIB
    if gpus and "nvidia" not in info.get("Runtimes", {}):
        notes.append("the daemon has no NVIDIA runtime: without NVIDIA's container toolkit no worker gets a card")
    return Offer(
        host=str(info["Name"]),
        vcpu=float(info["NCPU"]),
        ram_gib=info["MemTotal"] / _GIB,
        gpus=gpus,
        ports=ports,
        region=options.region,
        disk_gib=disk,
        driver=driver,
        notes=tuple(notes),
    )


def _stated(options: DockerOptions) -> tuple[GpuDevice, ...]:
    cards: list[GpuDevice] = []
    for name, count in (options.gpus or {}).items():
        known = find(family_of(name))
        if known is None:
            raise Invalid(f"the option gpus of the docker provider names no family of cards: {name[:64]!r}")
        for _ in range(count):
            index = len(cards)
            # The least that the family is made with: nobody has looked.
            cards.append(GpuDevice(index, str(index), known.name, float(min(known.vram_gib))))
    return tuple(cards)

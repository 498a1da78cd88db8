"""Machines: what a pool asks for, what a provider offers, what a worker holds, and what it costs. Pure data.

A host is named `machine`, or `machine/part`: the parts of a machine share its addresses, and so its ports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from stoker.domain.errors import Invalid
from stoker.domain.gpus import NAME_CHARS_MAX, stated_gib

GPUS_MAX = 64
FAMILIES_MAX = 16
DEFAULT_REGION = "local"


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """One card of one host. `id` is what its runtime calls it (a UUID or an index). `vram_gib` is what its driver
    reports. A `virtual` one exists in the account alone.
    """

    index: int
    id: str
    family: str
    vram_gib: float
    virtual: bool = False

    @property
    def stated_gib(self) -> float:
        """Its memory as its vendor states it, which is what is asked for."""
        return stated_gib(self.family, self.vram_gib)


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareRequest:
    """What one worker needs. A field left `None` is not asked for, and not accounted for either.

    `gpu_family` is one family or several of which any will do; all cards of a worker are alike. `vcpu` and `ram_gib`
    are for the whole worker, or said for each card. `disk_gib` is the size of its volume. `price_max` is the most that
    a worker may cost in an hour.
    """

    gpu_family: str | tuple[str, ...] | None = None
    gpu_count: int = 0
    vram_gib_min: float | None = None
    vcpu: float | None = None
    ram_gib: float | None = None
    vcpu_per_gpu: float | None = None
    ram_gib_per_gpu: float | None = None
    disk_gib: float | None = None
    region: str | None = None
    price_max: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.gpu_family, tuple):
            # One in a list is one: what is the same is written in one way only.
            names = tuple(dict.fromkeys(self.gpu_family))
            object.__setattr__(self, "gpu_family", names[0] if len(names) == 1 else names or None)
        if not 0 <= self.gpu_count <= GPUS_MAX:
            raise Invalid.at("/gpu_count", f"gpu_count must be between 0 and {GPUS_MAX}")
        if len(self.families) > FAMILIES_MAX or any(not 0 < len(name) <= NAME_CHARS_MAX for name in self.families):
            raise Invalid.at("/gpu_family", f"at most {FAMILIES_MAX} families, names to {NAME_CHARS_MAX} characters")
        of_cards = (self.vram_gib_min, self.vcpu_per_gpu, self.ram_gib_per_gpu)
        if self.gpu_count == 0 and (self.families or any(value is not None for value in of_cards)):
            raise Invalid.at("/gpu_count", "what is said of cards needs a gpu_count of at least 1")
        for name in ("vcpu", "ram_gib"):
            if getattr(self, name) is not None and getattr(self, f"{name}_per_gpu") is not None:
                raise Invalid.at(f"/{name}_per_gpu", f"say {name} once: for the worker, or for each card")
        for name in ("vram_gib_min", "vcpu", "ram_gib", "vcpu_per_gpu", "ram_gib_per_gpu", "disk_gib", "price_max"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 100_000:
                raise Invalid.at(f"/{name}", f"{name} must be above 0 and at most 100000")
        if self.region is not None and not 0 < len(self.region) <= NAME_CHARS_MAX:
            raise Invalid.at("/region", f"a region's name has between 1 and {NAME_CHARS_MAX} characters")

    @property
    def families(self) -> tuple[str, ...]:
        """The families of which any will do; none said: all."""
        if isinstance(self.gpu_family, str):
            return (self.gpu_family,)
        return self.gpu_family or ()

    @property
    def vcpu_all(self) -> float | None:
        """For the whole worker."""
        return self.vcpu if self.vcpu_per_gpu is None else self.vcpu_per_gpu * self.gpu_count

    @property
    def ram_gib_all(self) -> float | None:
        """For the whole worker."""
        return self.ram_gib if self.ram_gib_per_gpu is None else self.ram_gib_per_gpu * self.gpu_count

    def suits(self, gpu: GpuDevice) -> bool:
        """Is this card one of those that are asked for?"""
        if self.families and gpu.family not in self.families:
            return False
        return self.vram_gib_min is None or max(gpu.vram_gib, gpu.stated_gib) >= self.vram_gib_min


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports from `first` to `last`, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What hardware costs in an hour: each card by family, a worker without cards (`cpu`), and beside that a vCPU and a
    GiB of memory that are asked for. Those without a price of their own are included.
    """

    currency: str = "USD"
    gpus: Mapping[str, float] = field(default_factory=dict)
    cpu: float | None = None
    vcpu: float | None = None
    ram_gib: float | None = None

    def of(self, family: str | None, count: int, *, vcpu: float | None, ram_gib: float | None) -> float | None:
        """What so many cards and so much else cost in an hour; `None` when something of it has no price."""
        parts: list[float] = []
        if count:
            if family is None or family not in self.gpus:
                return None
            parts.append(self.gpus[family] * count)
        elif self.cpu is not None:
            parts.append(self.cpu)
        for price, amount in ((self.vcpu, vcpu), (self.ram_gib, ram_gib)):
            if price is not None and amount is not None:
                parts.append(price * amount)
        return math.fsum(parts) if parts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One host of one provider: what it has, not what is free. `ports` is `None` where workers have own addresses,
    `disk_gib` where nobody counts, `prices` where nobody says. `notes` has what about it cannot be used, and why.
    `ports_busy` are those of its ports where somebody listens, a worker or not.
    """

    host: str
    vcpu: float
    ram_gib: float
    gpus: tuple[GpuDevice, ...] = ()
    ports: PortRange | None = None
    ports_busy: frozenset[int] = frozenset()
    region: str = DEFAULT_REGION
    disk_gib: float | None = None
    prices: Prices | None = None
    virtual: bool = False
    driver: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def machine(self) -> str:
        """Whose addresses its workers have."""
        return machine_of(self.host)


def machine_of(host: str) -> str:
    """The machine that a host is, or is a part of."""
    return host.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What one worker holds of one host. The request is repeated so that accounting needs no other object. `ports` has
    those beside `port`. `freed` is what a cold worker has let go of (`vcpu`, `vram`). `price` is for an hour.
    """

    host: str
    gpus: tuple[int, ...] = ()
    vcpu: float | None = None
    ram_gib: float | None = None
    disk_gib: float | None = None
    port: int | None = None
    ports: tuple[int, ...] = ()
    freed: tuple[str, ...] = ()
    price: float | None = None
    currency: str | None = None

    @property
    def held(self) -> Placement:
        """What others cannot have at the moment."""
        if not self.freed:
            return self
        return replace(
            self,
            gpus=() if "vram" in self.freed else self.gpus,
            vcpu=None if "vcpu" in self.freed else self.vcpu,
            freed=(),
        )

    @property
    def addresses(self) -> Placement:
        """Its ports alone: all that is left of it while they are in quarantine."""
        return Placement(host=self.host, port=self.port, ports=self.ports)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualGpus:
    """Cards that are only pretended, for machines without any: `count` of them, each with so much memory (`None`: the
    most that the family is made with), and so many vCPU and GiB of memory and disk beside it.
    """

    family: str
    count: int = 1
    vram_gib: float | None = None
    vcpu: float = 8.0
    ram_gib: float = 32.0
    disk_gib: float | None = None
    region: str = DEFAULT_REGION

    def __post_init__(self) -> None:
        if not 1 <= self.count <= GPUS_MAX:
            raise Invalid.at("/count", f"count must be between 1 and {GPUS_MAX}")
        for name in ("vram_gib", "vcpu", "ram_gib", "disk_gib"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 100_000:
                raise Invalid.at(f"/{name}", f"{name} must be above 0 and at most 100000")

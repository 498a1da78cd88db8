"""GPUs and machines: what a pool asks for, what a provider offers, what a worker holds. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stoker.domain.errors import Invalid


@dataclass(frozen=True, slots=True)
class GpuFamily:
    """A kind of card. `aliases` are spellings found in driver names and in the clouds' catalogues."""

    name: str
    vram_gib: int
    aliases: tuple[str, ...] = ()


# Memory as the vendors state it, in GiB of the marketing kind (an H200 reports 141).
FAMILIES: tuple[GpuFamily, ...] = (
    GpuFamily("rtx3080ti", 12, ("geforce rtx 3080 ti", "gpu3080ti", "3080ti")),
    GpuFamily("rtx3090", 24, ("geforce rtx 3090",)),
    GpuFamily("rtx4090", 24, ("geforce rtx 4090", "rtx 4090")),
    GpuFamily("rtx5090", 32, ("geforce rtx 5090", "rtx 5090")),
    GpuFamily("a5000", 24, ("rtx a5000", "gpua5000")),
    GpuFamily("a6000", 48, ("rtx a6000", "gpua6000")),
    GpuFamily("rtx6000ada", 48, ("rtx 6000 ada generation", "rtx 6000 ada")),
    GpuFamily("rtxpro6000", 96, ("rtx pro 6000",)),
    GpuFamily("t4", 16, ("tesla t4",)),
    GpuFamily("v100", 32, ("tesla v100",)),
    GpuFamily("l4", 24, ()),
    GpuFamily("l40s", 48, ()),
    GpuFamily("a10", 24, ("a10g",)),
    GpuFamily("a40", 48, ("gpua40",)),
    GpuFamily("a100", 80, ()),
    GpuFamily("h100", 80, ()),
    GpuFamily("h200", 141, ()),
    GpuFamily("b200", 180, ()),
    GpuFamily("b300", 262, ()),
)


def family_of(name: str) -> str:
    """The canonical family for a driver's or a cloud's spelling, else the spelling in lower case.

    >>> family_of("NVIDIA H100 80GB HBM3")
    'h100'
    """
    text = name.lower().replace("nvidia", " ").replace("-", " ").replace("_", " ")
    words = " ".join(text.split())
    # Longest spelling first: "rtx 6000 ada" must not be taken for a shorter name inside it.
    spellings = sorted(
        ((spelling, family.name) for family in FAMILIES for spelling in (family.name, *family.aliases)),
        key=lambda pair: -len(pair[0]),
    )
    for spelling, canonical in spellings:
        if f" {spelling} " in f" {words} ":
            return canonical
    return words.replace(" ", "")


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """One card of one host. `id` is what its runtime calls it (a UUID or an index)."""

    index: int
    id: str
    family: str
    vram_gib: float
    virtual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareRequest:
    """What one worker needs. A field left `None` is not asked for, and not accounted for either."""

    gpu_family: str | None = None
    gpu_count: int = 0
    vram_gib_min: float | None = None
    vcpu: float | None = None
    ram_gib: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.gpu_count <= 64:
            raise Invalid.at("/gpu_count", "gpu_count must be between 0 and 64")
        if self.gpu_count == 0 and (self.gpu_family is not None or self.vram_gib_min is not None):
            raise Invalid.at("/gpu_count", "gpu_family and vram_gib_min need a gpu_count of at least 1")
        for name, value in (("vram_gib_min", self.vram_gib_min), ("vcpu", self.vcpu), ("ram_gib", self.ram_gib)):
            if value is not None and not 0 < value <= 100_000:
                raise Invalid.at(f"/{name}", f"{name} must be above 0 and at most 100000")


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports from `first` to `last`, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One host of one provider: what it has, not what is free. `ports` is `None` where workers have own addresses."""

    host: str
    vcpu: float
    ram_gib: float
    gpus: tuple[GpuDevice, ...] = ()
    ports: PortRange | None = None
    region: str = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What one worker holds of one host. The request is repeated so that accounting needs no other object. `freed` is
    what a cold worker has let go of (`vcpu`, `vram`).
    """

    host: str
    gpus: tuple[int, ...] = ()
    vcpu: float | None = None
    ram_gib: float | None = None
    port: int | None = None
    freed: tuple[str, ...] = ()

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

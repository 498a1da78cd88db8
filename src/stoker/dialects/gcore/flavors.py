"""Flavors: sizes of one worker, read from the machines that there are. Their names say what they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stoker.domain.access import Principal
from stoker.domain.errors import Invalid
from stoker.domain.gpus import spelled
from stoker.domain.hardware import HardwareRequest
from stoker.web import Services

# Of a worker without cards: as many vCPUs, and four times as many GiB where a machine has them.
CPU_SIZES = (1, 2, 4, 8, 16, 32, 64)
GIB_PER_VCPU = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavor:
    """A size, where it can be had (provider by number of the region) and how much more of it there."""

    name: str
    vcpu: int
    ram_gib: int
    gpus: int = 0
    family: str = ""
    vram_gib: float = 0
    providers: tuple[tuple[int, str], ...] = ()
    free: tuple[tuple[int, int], ...] = ()

    def provider(self, region: int) -> str | None:
        """Who has it in that region."""
        return dict(self.providers).get(region)

    @property
    def description(self) -> str:
        """In words."""
        cards = f"{self.gpus}x{self.family} / " if self.gpus else ""
        return f"{cards}{self.vcpu} vCPU / {self.ram_gib}GiB RAM"

    def hardware(self, region: str | None) -> HardwareRequest:
        """What a worker of this size asks for."""
        return HardwareRequest(
            gpu_family=self.family or None,
            gpu_count=self.gpus,
            vram_gib_min=self.vram_gib or None,
            vcpu=self.vcpu or None,
            ram_gib=self.ram_gib or None,
            region=region,
        )


@dataclass(frozen=True, slots=True)
class Place:
    """What there is to run on: regions' names by number, flavors by name."""

    regions: Mapping[int, str]
    flavors: Mapping[str, Flavor]

    def flavor(self, name: str) -> Flavor:
        """Raises `Invalid`."""
        if name not in self.flavors:
            raise Invalid.at("/flavor_name", f"no flavor {name[:64]!r}")
        return self.flavors[name]


def name_of(vcpu: int, ram_gib: int, *, gpus: int = 0, family: str = "", vram_gib: float = 0) -> str:
    """A flavor's name by rule."""
    cards = f"-{spelled(family, 'gcore', vram_gib=vram_gib, count=gpus)}" if gpus else ""
    return f"inference-{vcpu}vcpu-{ram_gib}gib{cards}"


def name_for(hardware: HardwareRequest) -> str:
    """The name by rule of what a pool asks for, which need not be listed."""
    family = next(iter(hardware.families), "gpu")
    return name_of(
        round(hardware.vcpu_all or 0),
        round(hardware.ram_gib_all or 0),
        gpus=hardware.gpu_count,
        family=family,
        vram_gib=hardware.vram_gib_min or 0,
    )


def flavors(services: Services, principal: Principal) -> tuple[Flavor, ...]:
    """Those that some machine here has room for when it is empty, by size."""
    found: dict[str, Flavor] = {}
    for flavor, region, provider in (*_without_cards(services, principal), *_with_cards(services)):
        known = found.setdefault(flavor.name, flavor)
        if region not in dict(known.providers):
            found[flavor.name] = replace(known, providers=(*known.providers, (region, provider)))
    made = [replace(flavor, free=_free(services, principal, flavor)) for flavor in found.values()]
    return tuple(sorted(made, key=lambda each: (each.gpus, each.family, each.vcpu, each.ram_gib, each.name)))


def place_of(services: Services, principal: Principal) -> Place:
    """What there is to run on now."""
    regions = {number: name for name, number in services.views.regions.items()}
    return Place(regions=regions, flavors={each.name: each for each in flavors(services, principal)})


def _without_cards(services: Services, principal: Principal) -> Sequence[tuple[Flavor, int, str]]:
    found: list[tuple[Flavor, int, str]] = []
    for host in services.views.hosts(principal, HardwareRequest()):
        if host.offer.virtual or host.region_number is None:
            continue
        for size in CPU_SIZES:
            ram_gib = min(GIB_PER_VCPU * size, int(host.offer.ram_gib))
            if size <= host.offer.vcpu and ram_gib:
                flavor = Flavor(name=name_of(size, ram_gib), vcpu=size, ram_gib=ram_gib)
                found.append((flavor, host.region_number, host.provider))
    return found


def _with_cards(services: Services) -> Sequence[tuple[Flavor, int, str]]:
    found: list[tuple[Flavor, int, str]] = []
    for view in services.views.instance_types(HardwareRequest()):
        each = view.type
        if view.region_number is None:
            continue
        vcpu, ram_gib = int(each.vcpu), int(each.ram_gib)
        flavor = Flavor(
            name=name_of(vcpu, ram_gib, gpus=each.count, family=each.family, vram_gib=each.vram_gib),
            vcpu=vcpu,
            ram_gib=ram_gib,
            gpus=each.count,
            family=each.family,
            vram_gib=each.vram_gib,
        )
        found.append((flavor, view.region_number, view.provider))
    return found


def _free(services: Services, principal: Principal, flavor: Flavor) -> tuple[tuple[int, int], ...]:
    free: dict[int, int] = {}
    for host in services.views.hosts(principal, flavor.hardware(None)):
        # Of another provider there, which may have the same machine, no deployment would take it.
        if host.region_number is not None and host.provider == flavor.provider(host.region_number):
            free[host.region_number] = free.get(host.region_number, 0) + host.fits
    return tuple(sorted(free.items()))

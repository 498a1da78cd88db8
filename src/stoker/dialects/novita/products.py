"""Products and clusters: the kinds of cards of the machines that there are, and the regions that these stand in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stoker.dialects.novita.errors import Refused
from stoker.domain.access import Principal
from stoker.domain.endpoint import PoolSpec
from stoker.domain.errors import Invalid
from stoker.domain.gpus import spelled
from stoker.domain.hardware import HardwareRequest
from stoker.web import Services

# The product of workers without cards.
CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A kind of card. `vcpu` and `ram_gib` come with each; `places` are regions and providers that have it. A worker
    can have up to `most`; `free` are free at present.
    """

    id: str
    name: str
    family: str = ""
    vram_gib: float = 0
    vcpu: int = 0
    ram_gib: int = 0
    places: tuple[tuple[str, str], ...] = ()
    most: int = 0
    free: int = 0

    @property
    def regions(self) -> tuple[str, ...]:
        """Where it can be had."""
        return tuple(dict.fromkeys(region for region, _ in self.places))

    def pool(self, gpus: int, region: str | None, *, beside: str | None = None) -> PoolSpec:
        """A pool of workers with so many of these, of the provider `beside` where that has them. Raises `Invalid`."""
        providers = [provider for place, provider in self.places if region in (None, place)]
        if not providers:
            raise Invalid.at("/clusterID", f"there is no {self.name} in the cluster {region}")
        provider = beside if beside in providers else providers[0]
        if not gpus:
            return PoolSpec(provider=provider, hardware=HardwareRequest(region=region))
        if not self.family:
            raise Invalid.at("/products", f"the product {self.id} has no cards: gpuNum is 0 with it")
        hardware = HardwareRequest(
            gpu_family=self.family,
            gpu_count=gpus,
            vram_gib_min=self.vram_gib,
            vcpu_per_gpu=self.vcpu or None,
            ram_gib_per_gpu=self.ram_gib or None,
            region=region,
        )
        return PoolSpec(provider=provider, hardware=hardware)


def product_id(family: str, vram_gib: float) -> str:
    """What a kind of card is called."""
    return f"{family}-{round(vram_gib)}gb"


def products(services: Services, principal: Principal) -> tuple[Product, ...]:
    """All of them by name, that without cards at the end."""
    found: dict[str, Product] = {}
    for view in services.views.instance_types(HardwareRequest()):
        each = view.type
        vcpu, ram_gib = int(each.vcpu // each.count), int(each.ram_gib // each.count)
        new = Product(
            id=product_id(each.family, each.vram_gib),
            name=spelled(each.family, "novita", vram_gib=each.vram_gib),
            family=each.family,
            vram_gib=each.vram_gib,
            vcpu=vcpu,
            ram_gib=ram_gib,
        )
        known = found.get(new.id, new)
        found[new.id] = replace(
            known,
            vcpu=min(vcpu, known.vcpu),
            ram_gib=min(ram_gib, known.ram_gib),
            places=tuple(dict.fromkeys((*known.places, (each.region, view.provider)))),
            most=max(each.count, known.most),
            free=known.free + (each.free if each.count == 1 else 0),
        )
    return (*sorted(found.values(), key=lambda each: each.name), _without_cards(services, principal))


def _without_cards(services: Services, principal: Principal) -> Product:
    hosts = services.views.hosts(principal, HardwareRequest())
    places = tuple(dict.fromkeys((host.offer.region, host.provider) for host in hosts))
    return Product(id=CPU, name="CPU", places=places, free=len(hosts))


def chosen(known: Sequence[Product], id: str) -> Product:
    """The product with that id; a number is its place in the list, from 1 on. Raises `Refused`."""
    for product in known:
        if product.id == id:
            return product
    if id.isascii() and id.isdigit() and len(id) < 5 and 0 < int(id) <= len(known):
        return known[int(id) - 1]
    raise Refused("SERVERLESS_PRODUCT_NOT_FOUND", f"there is no product {id[:64]!r}")


def product_of(known: Sequence[Product], hardware: HardwareRequest) -> str:
    """The id of the product that a pool asks for, which need not be listed."""
    if not hardware.gpu_count:
        return CPU
    family = next(iter(hardware.families), None)
    for product in known:
        vram_gib = hardware.vram_gib_min
        if product.family and family in (None, product.family) and vram_gib in (None, product.vram_gib):
            return product.id
    return product_id(family or "gpu", hardware.vram_gib_min or 0)


def check_room(services: Services, principal: Principal, pool: PoolSpec) -> None:
    """Refuse what no machine could hold, whoever uses it at present. Raises `Refused`."""
    hosts = services.views.hosts(principal, pool.hardware)
    if not any(host.provider == pool.provider for host in hosts):
        raise Refused("INSUFFICIENT_RESOURCE", "no machine has that much hardware for one worker")

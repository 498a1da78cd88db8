"""Where a worker goes: the cheapest room that does, then the smallest, then the fullest. Pure; never overcommits.

Called by control inside the transaction that records the placement, so that two workers cannot be given the same card.
The order of offers and placements is no matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, Placement, machine_of

# A port is not given out again for this long after the gateway has forgotten its worker: late packets and pooled
# connections of the old one must not reach the new one.
PORT_QUARANTINE_S = 60.0
# Hosts named in one explanation; there may be hundreds.
HOSTS_EXPLAINED_MAX = 5
# Sums of shares such as 0.1 are not exact.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """One thing that one host has too little of. `resource` is gpu, vcpu, ram_gib, disk_gib, port, price or region.
    Of a price, `free` and `total` are what the worker would cost there; `None` is unknown. A region has no numbers.
    """

    resource: str
    text: str
    needed: float | None = None
    free: float | None = None
    total: float | None = None

    @property
    def gap(self) -> float:
        """How much of what is needed is missing, between 0 and 1."""
        return _gap(self.needed, self.free)

    @property
    def gap_when_empty(self) -> float:
        """The same of the host without any workers."""
        if self.needed is not None and self.total is not None and self.resource != "price":
            return _gap(self.needed, min(self.needed, self.total))
        return self.gap


def _gap(needed: float | None, there: float | None) -> float:
    if needed is None or there is None:
        return 1.0
    less, more = sorted((needed, max(0.0, there)))
    return (more - less) / more if more else 0.0


@dataclass(frozen=True, slots=True)
class Unplaceable:
    """Why nothing fits. `ever` is false when even empty hosts would not do. `lacks` has all that each host has too
    little of, the host that comes nearest first; `reason` says it in words.
    """

    reason: str
    ever: bool
    lacks: tuple[tuple[str, tuple[Lack, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is left of one host beside what workers hold."""

    offer: Offer
    vcpu: float
    ram_gib: float
    disk_gib: float | None
    gpus: tuple[GpuDevice, ...]
    ports_taken: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """Cards of one host that are alike; `price` is that of a worker on them."""

    family: str | None
    size_gib: float
    virtual: bool
    free: tuple[int, ...]
    total: int
    price: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One host in the light of one request: the cards to take and how good that is, or all that is missing."""

    room: Room
    kind: _Kind | None = None
    rank: tuple[Any, ...] = ()
    lacks: tuple[Lack, ...] = ()


def rooms(offers: Iterable[Offer], in_use: Iterable[Placement]) -> list[Room]:
    """What is left of every host, by name."""
    held: dict[str, list[Placement]] = {}
    ports: dict[str, set[int]] = {}
    for placement in in_use:
        held.setdefault(placement.host, []).append(placement)
        taken = ports.setdefault(machine_of(placement.host), set())
        taken.update(placement.ports if placement.port is None else (placement.port, *placement.ports))
    return [
        _room(offer, held.get(offer.host, ()), offer.ports_busy.union(ports.get(offer.machine, ())))
        for offer in sorted(offers, key=lambda offer: offer.host)
    ]


def room_of(offer: Offer, in_use: Iterable[Placement]) -> Room:
    """What is left of one host. `in_use` has at least what is held of its machine."""
    held = [placement for placement in in_use if machine_of(placement.host) == offer.machine]
    ports = {port for p in held for port in (p.port, *p.ports) if port is not None}
    return _room(offer, [p for p in held if p.host == offer.host], offer.ports_busy | ports)


def _room(offer: Offer, held: Sequence[Placement], ports: frozenset[int]) -> Room:
    cards = {index for placement in held for index in placement.gpus}
    disk = None if offer.disk_gib is None else offer.disk_gib - math.fsum(p.disk_gib or 0.0 for p in held)
    return Room(
        offer=offer,
        # Exact sums, which are the same in whatever order.
        vcpu=offer.vcpu - math.fsum(p.vcpu or 0.0 for p in held),
        ram_gib=offer.ram_gib - math.fsum(p.ram_gib or 0.0 for p in held),
        disk_gib=disk,
        gpus=tuple(gpu for gpu in offer.gpus if gpu.index not in cards),
        ports_taken=ports,
    )


def place(
    request: HardwareRequest, offers: Sequence[Offer], in_use: Iterable[Placement], *, ports: int = 1
) -> Placement | Unplaceable:
    """A placement beside `in_use`: the cheapest, then the smallest cards, then the host with the least left; else the
    reason, in numbers.

    `ports` are wanted of hosts whose workers share the host's addresses. All cards of a worker are of one kind.
    """
    return choose(request, [judge(request, room, ports) for room in rooms(offers, in_use)], offers, ports)


def judge(request: HardwareRequest, room: Room, ports: int) -> Judged:
    """How well the request fits into the room. Says the same as long as the room is the same."""
    best = _fit(request, room, ports)
    if isinstance(best, tuple):
        return Judged(room=room, lacks=best)
    return Judged(room=room, kind=best, rank=_rank(request, room, best))


def choose(
    request: HardwareRequest,
    judged: Iterable[Judged],
    offers: Sequence[Offer],
    ports: int,
    *,
    avoid: Mapping[str, int] | None = None,
) -> Placement | Unplaceable:
    """What `place` answers, of all its hosts as they were judged. Hosts in `avoid` come after all others, those with
    the largest numbers last.
    """
    judged = tuple(judged)
    avoid = avoid or {}
    fit = (each for each in judged if each.kind is not None)
    best = min(fit, key=lambda each: (avoid.get(each.room.offer.host, 0), each.rank), default=None)
    if best is not None and best.kind is not None:
        return _placement(request, best.room, best.kind, ports)
    lacks = sorted(((each.room.offer.host, each.lacks) for each in judged), key=_distance)
    return Unplaceable(_explained(lacks), not _never(request, offers, ports), tuple(lacks))


def impossible(request: HardwareRequest, offers: Sequence[Offer], *, ports: int) -> str | None:
    """Why no host could run this even when all are empty; `None` when one can."""
    if not _never(request, offers, ports):
        return None
    found = place(request, offers, (), ports=ports)
    assert isinstance(found, Unplaceable)
    return found.reason


def _never(request: HardwareRequest, offers: Sequence[Offer], ports: int) -> bool:
    # The first host that does settles it; there may be thousands.
    return not any(isinstance(_fit(request, _room(offer, (), frozenset()), ports), _Kind) for offer in offers)


def _distance(lacking: tuple[str, tuple[Lack, ...]]) -> tuple[object, ...]:
    """Nearest first: fewest things missing, then least of them now, then least of them ever."""
    host, lacks = lacking
    now, ever = math.fsum(lack.gap for lack in lacks), math.fsum(lack.gap_when_empty for lack in lacks)
    return (len(lacks), now, ever, host)


def _explained(lacks: Sequence[tuple[str, tuple[Lack, ...]]]) -> str:
    if not lacks:
        return "there is no host"
    shown = [f"{host}: {', and '.join(lack.text for lack in each)}" for host, each in lacks[:HOSTS_EXPLAINED_MAX]]
    more = len(lacks) - len(shown)
    return "; ".join(shown) + (f"; and {more} more hosts lack more" if more else "")


def missing(request: HardwareRequest, offer: Offer, in_use: Iterable[Placement], *, ports: int = 1) -> tuple[Lack, ...]:
    """What this host has too little of beside `in_use`; nothing when the worker fits."""
    [room] = rooms((offer,), in_use)
    found = _fit(request, room, ports)
    return found if isinstance(found, tuple) else ()


def _fit(request: HardwareRequest, room: Room, ports: int) -> _Kind | tuple[Lack, ...]:
    """The kind of cards to take, or all that is missing."""
    offer = room.offer
    lacks: list[Lack] = []
    if request.region is not None and request.region != offer.region:
        text = f"needs region {request.region}, this is {offer.region}"
        lacks.append(Lack(resource="region", text=text))
    kind = _kind(request, room)
    if isinstance(kind, Lack):
        lacks.append(kind)
    shares = (
        ("vcpu", "vCPU", request.vcpu_all, room.vcpu, offer.vcpu),
        ("ram_gib", "GiB of memory", request.ram_gib_all, room.ram_gib, offer.ram_gib),
        ("disk_gib", "GiB of disk", request.disk_gib, room.disk_gib, offer.disk_gib),
    )
    for resource, unit, needed, free, total in shares:
        if needed is not None and free is not None and total is not None and needed > free + _ROUNDING:
            shown = f"needs {needed:g} {unit}, {_down(free)} of {_down(total)} free"
            lacks.append(Lack(resource=resource, text=shown, needed=needed, free=free, total=total))
    lacks += _ports_lack(room, ports)
    if lacks or isinstance(kind, Lack):
        return tuple(lacks)
    return kind


def _down(value: float) -> str:
    """To a tenth, never above the value: what is shown as free must not look like enough."""
    return f"{math.floor(max(0.0, value) * 10) / 10:g}"


def _ports_lack(room: Room, wanted: int) -> list[Lack]:
    ports = room.offer.ports
    if ports is None or not wanted:
        return []
    free = len(ports) - sum(1 for port in room.ports_taken if ports.first <= port <= ports.last)
    if free >= wanted:
        return []
    what = "a port" if wanted == 1 else f"{wanted} ports"
    text = f"needs {what}, {free} of {len(ports)} from {ports.first} to {ports.last} free"
    return [Lack(resource="port", text=text, needed=wanted, free=free, total=len(ports))]


def _kind(request: HardwareRequest, room: Room) -> _Kind | Lack:
    """The best kind of cards that has enough free ones and is within the price; else what is missing of it."""
    kinds = _kinds(request, room)
    suited = sum(kind.total for kind in kinds) if request.gpu_count else 0
    affordable = [kind for kind in kinds if _affordable(request, kind.price)]
    if kinds and not affordable:
        cheapest = min(kinds, key=_by_price)
        return _price_lack(request, room.offer, cheapest.price)
    enough = [kind for kind in affordable if len(kind.free) >= request.gpu_count]
    if enough:
        return min(enough, key=lambda kind: (*_by_price(kind), kind.virtual, kind.size_gib, _preferred(request, kind)))
    free, total = max(((len(kind.free), kind.total) for kind in affordable), default=(0, 0))
    family = " or ".join(request.families)
    kind_text = f" {family}" if family else ""
    vram = f" with {request.vram_gib_min:g} GiB" if request.vram_gib_min is not None else ""
    cards = "card" if request.gpu_count == 1 else "cards"
    alike = " of one kind" if len(kinds) > 1 and request.gpu_count > 1 else ""
    beside = f" and {len(room.offer.gpus) - suited} of other kinds" if len(room.offer.gpus) > suited else ""
    text = f"needs {request.gpu_count}{kind_text} GPU {cards}{vram}{alike}, {free} of {total} free{beside}"
    return Lack(resource="gpu", text=text, needed=request.gpu_count, free=free, total=total)


def _kinds(request: HardwareRequest, room: Room) -> list[_Kind]:
    """The kinds of cards that suit. Without cards, one kind of none."""
    offer, count = room.offer, request.gpu_count
    cards: dict[tuple[str | None, float, bool], list[GpuDevice]] = {} if count else {(None, 0.0, offer.virtual): []}
    if count:
        for gpu in offer.gpus:
            if request.suits(gpu):
                cards.setdefault((gpu.family, gpu.stated_gib, gpu.virtual), []).append(gpu)
    free = {gpu.index for gpu in room.gpus}
    return [
        _Kind(
            family=family,
            size_gib=size,
            virtual=virtual,
            free=tuple(sorted(gpu.index for gpu in gpus if gpu.index in free)),
            total=len(gpus),
            price=_price(request, offer, family),
        )
        for (family, size, virtual), gpus in sorted(cards.items(), key=lambda item: (str(item[0][0]), item[0][1:]))
    ]


def _price(request: HardwareRequest, offer: Offer, family: str | None) -> float | None:
    if offer.prices is None:
        return None
    return offer.prices.of(family, request.gpu_count, vcpu=request.vcpu_all, ram_gib=request.ram_gib_all)


def _affordable(request: HardwareRequest, price: float | None) -> bool:
    if request.price_max is None:
        return True
    return price is not None and price <= request.price_max + _ROUNDING


def _by_price(kind: _Kind) -> tuple[bool, float]:
    # What has no price is not free of charge: it comes last.
    return (True, 0.0) if kind.price is None else (False, kind.price)


def _price_lack(request: HardwareRequest, offer: Offer, price: float | None) -> Lack:
    ceiling = f"may cost {request.price_max:g} an hour"
    if price is None:
        return Lack(resource="price", text=f"{ceiling}, and has no price here", needed=request.price_max)
    currency = "" if offer.prices is None else f" {offer.prices.currency}"
    text = f"{ceiling}, costs {math.ceil(price * 10_000) / 10_000:g}{currency}"
    return Lack(resource="price", text=text, needed=request.price_max, free=price, total=price)


def _preferred(request: HardwareRequest, kind: _Kind) -> tuple[int, str]:
    """Families in the order in which they were asked for."""
    families = request.families
    return (families.index(kind.family) if kind.family in families else len(families), kind.family or "")


def _rank(request: HardwareRequest, room: Room, kind: _Kind) -> tuple[object, ...]:
    """Best first: cheapest, then smallest, then fullest; real before virtual where the price is the same."""
    offer = room.offer
    # A worker without cards keeps off hosts that have some as long as it can.
    smallest = (kind.size_gib, _preferred(request, kind)) if request.gpu_count else (len(offer.gpus), (0, ""))
    fullest = (len(room.gpus) - request.gpu_count, room.vcpu, room.ram_gib)
    return (*_by_price(kind), kind.virtual, *smallest, *fullest, offer.host)


def _placement(request: HardwareRequest, room: Room, kind: _Kind, ports: int) -> Placement:
    offer = room.offer
    given: tuple[int, ...] = ()
    if offer.ports is not None and ports:
        free = (p for p in range(offer.ports.first, offer.ports.last + 1) if p not in room.ports_taken)
        given = tuple(port for port, _ in zip(free, range(ports), strict=False))
    return Placement(
        host=offer.host,
        gpus=kind.free[: request.gpu_count],
        vcpu=request.vcpu_all,
        ram_gib=request.ram_gib_all,
        disk_gib=request.disk_gib,
        port=given[0] if given else None,
        ports=given[1:],
        price=kind.price,
        currency=offer.prices.currency if offer.prices is not None and kind.price is not None else None,
    )


def capacity(request: HardwareRequest, offers: Sequence[Offer], in_use: Sequence[Placement], *, most: int) -> int:
    """How many more such workers have room at once, up to `most`; ports aside."""
    held, count = list(in_use), 0
    while count < most and isinstance(found := place(request, offers, held, ports=0), Placement):
        held.append(replace(found, port=None))
        count += 1
    return count


def regain(placement: Placement, offers: Sequence[Offer], in_use: Iterable[Placement]) -> str | None:
    """Why a cold worker cannot have back what it let go of, beside `in_use`, which has what it still holds; `None` when
    it can.
    """
    offer = next((offer for offer in offers if offer.host == placement.host), None)
    if offer is None:
        return f"its host {placement.host} is gone"
    held = [other for other in in_use if other.host == placement.host]
    if "vcpu" in placement.freed and placement.vcpu is not None:
        free = offer.vcpu - math.fsum(p.vcpu or 0.0 for p in held)
        if placement.vcpu > free + _ROUNDING:
            return f"needs {placement.vcpu:g} vCPU, {_down(free)} of {_down(offer.vcpu)} free"
    if "vram" in placement.freed:
        taken = {index for other in held for index in other.gpus} & set(placement.gpus)
        if taken:
            return f"its GPU {', '.join(map(str, sorted(taken)))} is in use by another worker"
    return None

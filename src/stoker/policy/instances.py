"""Which instance types the hosts make: families of cards times numbers of them that one host has. Pure.

What clouds call an instance type or a flavour; their dialects render these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stoker.domain.hardware import Offer, Placement
from stoker.domain.views import InstanceType
from stoker.policy.placement import Room, rooms


@dataclass(frozen=True, slots=True)
class _Host:
    offer: Offer
    cards: int
    free: int

    def share(self, amount: float, count: int) -> float:
        return amount / len(self.offer.gpus) * count


def instance_types(offers: Iterable[Offer], in_use: Iterable[Placement]) -> tuple[InstanceType, ...]:
    """All of them: by region, family, memory and number of cards."""
    kinds: dict[tuple[str, str, float, bool], list[_Host]] = {}
    for room in rooms(offers, in_use):
        for key, host in _kinds(room).items():
            kinds.setdefault((room.offer.region, *key), []).append(host)
    return tuple(
        _type(key, hosts, count)
        for key, hosts in sorted(kinds.items())
        for count in range(1, max(host.cards for host in hosts) + 1)
    )


def _kinds(room: Room) -> dict[tuple[str, float, bool], _Host]:
    free = {gpu.index for gpu in room.gpus}
    cards: dict[tuple[str, float, bool], list[int]] = {}
    for gpu in room.offer.gpus:
        cards.setdefault((gpu.family, gpu.stated_gib, gpu.virtual), []).append(gpu.index)
    return {
        key: _Host(room.offer, len(indexes), sum(1 for index in indexes if index in free))
        for key, indexes in cards.items()
    }


def _type(key: tuple[str, str, float, bool], hosts: list[_Host], count: int) -> InstanceType:
    region, family, vram, virtual = key
    able = [host for host in hosts if host.cards >= count]
    vcpu = min(host.share(host.offer.vcpu, count) for host in able)
    ram = min(host.share(host.offer.ram_gib, count) for host in able)
    prices = [
        (price, host.offer.prices.currency)
        for host in able
        if host.offer.prices is not None
        and (price := host.offer.prices.of(family, count, vcpu=vcpu, ram_gib=ram)) is not None
    ]
    price, currency = min(prices) if prices else (None, None)
    return InstanceType(
        region=region,
        family=family,
        vram_gib=vram,
        virtual=virtual,
        count=count,
        vcpu=vcpu,
        ram_gib=ram,
        total=sum(host.cards // count for host in able),
        free=sum(host.free // count for host in able),
        price=price,
        currency=currency,
    )

"""Instance types: every number of cards that one host has, and how many of it there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, Placement, Prices
from stoker.policy.instances import instance_types
from stoker.policy.placement import capacity


def host(name: str, cards: int, *, region: str = "local", vcpu: float = 16, prices: Prices | None = None) -> Offer:
    gpus = tuple(GpuDevice(index=i, id=str(i), family="h100", vram_gib=79.6) for i in range(cards))
    return Offer(host=name, vcpu=vcpu, ram_gib=64, gpus=gpus, region=region, prices=prices)


def test_every_number_of_cards_of_a_host_is_a_type_of_its_own() -> None:
    found = instance_types([host("a", 4), host("b", 2), host("c", 0)], [Placement(host="a", gpus=(0,))])
    assert [(t.count, t.total, t.free) for t in found] == [(1, 6, 5), (2, 3, 2), (3, 1, 1), (4, 1, 0)]
    assert {(t.family, t.vram_gib, t.region, t.virtual) for t in found} == {("h100", 80, "local", False)}
    assert [(t.vcpu, t.ram_gib) for t in found] == [(4, 16), (8, 32), (12, 48), (16, 64)]


def test_regions_are_told_apart_and_the_cheapest_price_is_shown() -> None:
    dear, cheap = Prices(gpus={"h100": 3.0}), Prices(currency="EUR", gpus={"h100": 2.0}, vcpu=0.1)
    found = instance_types([host("a", 1, prices=dear), host("b", 1, region="eu", prices=cheap)], [])
    assert [(t.region, t.price, t.currency) for t in found] == [
        ("eu", pytest.approx(3.6), "EUR"),
        ("local", 3.0, "USD"),
    ]
    assert instance_types([host("a", 1)], [])[0].price is None


def test_without_cards_there_are_no_types() -> None:
    assert instance_types([host("a", 0)], []) == ()


@given(sizes=st.lists(st.integers(0, 5), max_size=4), busy=st.sets(st.integers(0, 4), max_size=5))
def test_what_is_free_is_what_placement_would_place(sizes: list[int], busy: set[int]) -> None:
    offers = [host(f"h{number}", size) for number, size in enumerate(sizes)]
    held = [Placement(host=offer.host, gpus=(i,)) for offer in offers for i in busy if i < len(offer.gpus)]
    for each in instance_types(offers, held):
        request = HardwareRequest(gpu_count=each.count, gpu_family=each.family)
        assert capacity(request, offers, held, most=100) == each.free
        assert capacity(request, offers, [], most=100) == each.total

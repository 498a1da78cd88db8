"""What holds of every placement, whatever the hosts and the requests are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, Placement, PortRange, Prices
from stoker.policy.placement import Lack, missing, place

EPSILON = 1e-6


amounts = st.one_of(st.none(), st.floats(0.1, 6))


families = st.sampled_from([None, "h100", "l4", ("l4", "h100"), ("a100", "l4")])


@st.composite
def some_requests(draw: st.DrawFn) -> HardwareRequest:
    count = draw(st.integers(0, 3))
    by_card = count > 0 and draw(st.booleans())
    return HardwareRequest(
        gpu_count=count,
        gpu_family=draw(families) if count else None,
        vram_gib_min=draw(st.sampled_from([None, 24, 48])) if count else None,
        vcpu=None if by_card else draw(amounts),
        vcpu_per_gpu=draw(amounts) if by_card else None,
        ram_gib=draw(st.one_of(st.none(), st.floats(0.1, 20))),
        disk_gib=draw(amounts),
        region=draw(st.sampled_from([None, None, "local", "eu"])),
        price_max=draw(st.sampled_from([None, None, 0.5, 2.0, 5.0])),
    )


@st.composite
def some_offers(draw: st.DrawFn) -> list[Offer]:
    names = draw(st.lists(st.sampled_from(["a", "a/x", "b", "b/y", "c"]), unique=True, max_size=4))
    made = []
    for name in names:
        kinds = draw(st.lists(st.sampled_from([("h100", 80.0), ("l4", 22.5), ("a100", 40.0)]), max_size=5))
        made.append(
            Offer(
                host=name,
                vcpu=draw(st.floats(1, 10)),
                ram_gib=32,
                gpus=tuple(
                    GpuDevice(index=i, id=f"GPU-{i}", family=family, vram_gib=vram)
                    for i, (family, vram) in enumerate(kinds)
                ),
                ports=draw(st.sampled_from([None, PortRange(20_000, 20_002), PortRange(20_001, 20_004)])),
                ports_busy=draw(st.frozensets(st.integers(20_000, 20_004), max_size=2)),
                region=draw(st.sampled_from(["local", "eu"])),
                disk_gib=draw(st.one_of(st.none(), st.floats(1, 20))),
                prices=draw(
                    st.sampled_from([None, Prices(gpus={"h100": 2.0, "l4": 0.4}), Prices(gpus={"l4": 1.0}, vcpu=0.1)])
                ),
            )
        )
    return made


# A course of events: place this, or (a number) release the worker that was placed so many ago.
courses = st.lists(st.one_of(some_requests(), st.integers(0, 5)), max_size=20)


wanted_ports = st.integers(0, 2)


def after(offers: Sequence[Offer], course: Sequence[HardwareRequest | int], ports: int) -> list[Placement]:
    held: list[Placement] = []
    for step in course:
        if isinstance(step, int):
            del held[step : step + 1]
        elif isinstance(found := place(step, offers, held, ports=ports), Placement):
            held.append(found)
    return held


@given(offers=some_offers(), course=courses, ports=wanted_ports)
def test_nothing_is_ever_overcommitted(offers: list[Offer], course: list[HardwareRequest | int], ports: int) -> None:
    held = after(offers, course, ports)
    for offer in offers:
        here = [placement for placement in held if placement.host == offer.host]
        gpus = [gpu for placement in here for gpu in placement.gpus]
        assert len(gpus) == len(set(gpus))
        assert set(gpus) <= {gpu.index for gpu in offer.gpus}
        assert sum(placement.vcpu or 0 for placement in here) <= offer.vcpu + EPSILON
        assert sum(placement.ram_gib or 0 for placement in here) <= offer.ram_gib + EPSILON
        if offer.disk_gib is not None:
            assert sum(placement.disk_gib or 0 for placement in here) <= offer.disk_gib + EPSILON
        for placement in here:
            own = [port for port in (placement.port, *placement.ports) if port is not None]
            assert len(own) == (ports if offer.ports is not None else 0)
            assert all(offer.ports is not None and offer.ports.first <= port <= offer.ports.last for port in own)
            assert offer.ports_busy.isdisjoint(own)
    for machine in {offer.machine for offer in offers}:
        there = [placement for placement in held if placement.host.partition("/")[0] == machine]
        used = [port for p in there for port in (p.port, *p.ports) if port is not None]
        assert len(used) == len(set(used)), "parts of a machine share its addresses"


@given(offers=some_offers(), course=courses, request=some_requests(), ports=wanted_ports, data=st.data())
def test_the_order_of_hosts_cards_and_workers_is_no_matter(
    offers: list[Offer], course: list[HardwareRequest | int], request: HardwareRequest, ports: int, data: st.DataObject
) -> None:
    held = after(offers, course, ports)
    shuffled = [replace(o, gpus=tuple(data.draw(st.permutations(o.gpus)))) for o in data.draw(st.permutations(offers))]
    again = data.draw(st.permutations(held))
    assert place(request, offers, held, ports=ports) == place(request, shuffled, again, ports=ports)


def fits(
    request: HardwareRequest, offer: Offer, chosen: Sequence[GpuDevice], held: Sequence[Placement], ports: int
) -> bool:
    """What fitting means, written down plainly: this host, these very cards."""
    here = [p for p in held if p.host == offer.host]
    if request.region not in (None, offer.region):
        return False
    if {gpu.index for gpu in chosen} & {index for p in here for index in p.gpus}:
        return False
    if len({(gpu.family, gpu.stated_gib) for gpu in chosen}) > 1 or not all(request.suits(gpu) for gpu in chosen):
        return False
    for needed, total, taken in (
        (request.vcpu_all, offer.vcpu, math.fsum(p.vcpu or 0 for p in here)),
        (request.ram_gib_all, offer.ram_gib, math.fsum(p.ram_gib or 0 for p in here)),
        (request.disk_gib, offer.disk_gib, math.fsum(p.disk_gib or 0 for p in here)),
    ):
        if needed is not None and total is not None and needed + taken > total + 1e-9:
            return False
    if request.price_max is not None:
        family = chosen[0].family if chosen else None
        prices = offer.prices or Prices()
        price = prices.of(family, len(chosen), vcpu=request.vcpu_all, ram_gib=request.ram_gib_all)
        if price is None or price > request.price_max + 1e-9:
            return False
    if offer.ports is None:
        return True
    there = [p for p in held if p.host.partition("/")[0] == offer.machine]
    used = {port for p in there for port in (p.port, *p.ports)}
    return len([p for p in range(offer.ports.first, offer.ports.last + 1) if p not in used]) >= ports


@given(offers=some_offers(), course=courses, request=some_requests(), ports=wanted_ports)
def test_it_refuses_only_what_a_search_of_all_possibilities_does_not_find_either(
    offers: list[Offer], course: list[HardwareRequest | int], request: HardwareRequest, ports: int
) -> None:
    held = after(offers, course, ports)
    possible = {
        offer.host
        for offer in offers
        for chosen in itertools.combinations(offer.gpus, request.gpu_count)
        if fits(request, offer, chosen, held, ports)
    }
    found = place(request, offers, held, ports=ports)
    if isinstance(found, Placement):
        assert found.host in possible
        offer = next(offer for offer in offers if offer.host == found.host)
        chosen = [gpu for gpu in offer.gpus if gpu.index in found.gpus]
        assert fits(request, offer, chosen, held, ports)
    else:
        assert possible == set()
    for offer in offers:
        assert (missing(request, offer, [p for p in held if p.host == offer.host], ports=0) == ()) == any(
            fits(request, offer, chosen, held, 0) for chosen in itertools.combinations(offer.gpus, request.gpu_count)
        )


@given(offers=some_offers(), course=courses, request=some_requests(), ports=wanted_ports)
def test_explanations_are_true(
    offers: list[Offer], course: list[HardwareRequest | int], request: HardwareRequest, ports: int
) -> None:
    held = after(offers, course, ports)
    found = place(request, offers, held, ports=ports)
    if isinstance(found, Placement):
        return
    assert sorted(name for name, _ in found.lacks) == sorted(offer.host for offer in offers)
    assert found.ever is isinstance(place(request, offers, [], ports=ports), Placement)
    by_name = {offer.host: offer for offer in offers}
    for name, lacks in found.lacks:
        assert lacks, "a host that lacks nothing is not refused"
        for lack in lacks:
            check_lack(lack, request, by_name[name], [p for p in held if p.host == name])
    nearness = [(len(lacks), math.fsum(lack.gap for lack in lacks)) for _, lacks in found.lacks]
    assert nearness == sorted(nearness)


def check_lack(lack: Lack, request: HardwareRequest, offer: Offer, here: Sequence[Placement]) -> None:
    if lack.resource == "region":
        assert request.region not in (None, offer.region)
        return
    if lack.resource == "price":
        assert lack.free is None or (lack.needed is not None and lack.free > lack.needed)
        return
    assert lack.needed is not None
    assert lack.free is not None
    assert lack.total is not None
    assert lack.needed > lack.free
    assert lack.total >= lack.free
    match lack.resource:
        case "gpu":
            busy = {index for p in here for index in p.gpus}
            free = [gpu for gpu in offer.gpus if request.suits(gpu) and gpu.index not in busy]
            assert lack.needed == request.gpu_count
            assert lack.free <= len(free)
        case "vcpu":
            assert lack.needed == request.vcpu_all
            assert lack.free == pytest.approx(offer.vcpu - sum(p.vcpu or 0 for p in here))
        case "ram_gib":
            assert lack.free == pytest.approx(offer.ram_gib - sum(p.ram_gib or 0 for p in here))
        case "disk_gib":
            assert offer.disk_gib is not None
            assert lack.free == pytest.approx(offer.disk_gib - sum(p.disk_gib or 0 for p in here), abs=1e-6)
        case _:
            assert lack.resource == "port"


@given(offers=some_offers(), request=some_requests())
def test_a_worker_never_costs_more_than_the_cheapest_room_and_never_more_than_its_ceiling(
    offers: list[Offer], request: HardwareRequest
) -> None:
    found = place(request, offers, [])
    if not isinstance(found, Placement):
        return
    prices = [p.price for offer in offers if isinstance(p := place(request, [offer], []), Placement)]
    known = [price for price in prices if price is not None]
    assert found.price == (min(known) if known else None)
    if request.price_max is not None:
        assert found.price is not None
        assert found.price <= request.price_max + 1e-9

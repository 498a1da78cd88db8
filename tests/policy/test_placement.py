"""Placement: what fits where, what is best, why not, and that nothing is ever given out twice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, Placement, PortRange, Prices
from stoker.policy.placement import Lack, Unplaceable, capacity, missing, place

EPSILON = 1e-6


def cards(count: int, family: str = "h100", vram_gib: float = 80, *, first: int = 0) -> tuple[GpuDevice, ...]:
    return tuple(
        GpuDevice(index=first + i, id=f"GPU-{first + i}", family=family, vram_gib=vram_gib) for i in range(count)
    )


def host(
    name: str = "a",
    *,
    gpus: int = 2,
    family: str = "h100",
    ports: int = 3,
    vcpu: float = 8,
    prices: Prices | None = None,
    region: str = "local",
    disk_gib: float | None = None,
) -> Offer:
    return Offer(
        host=name,
        vcpu=vcpu,
        ram_gib=32,
        gpus=cards(gpus, family),
        ports=PortRange(20_000, 20_000 + ports - 1),
        prices=prices,
        region=region,
        disk_gib=disk_gib,
    )


def placed(found: Placement | Unplaceable) -> Placement:
    assert isinstance(found, Placement), found
    return found


def refused(found: Placement | Unplaceable) -> Unplaceable:
    assert isinstance(found, Unplaceable), found
    return found


def test_a_worker_gets_the_lowest_free_cards_and_port() -> None:
    held = [Placement(host="a", gpus=(0,), port=20_000)]
    found = place(HardwareRequest(gpu_count=1), [host()], held)
    assert found == Placement(host="a", gpus=(1,), port=20_001)


def test_a_worker_of_several_ports_gets_as_many() -> None:
    found = placed(place(HardwareRequest(), [host()], [Placement(host="a", port=20_001)], ports=2))
    assert (found.port, found.ports) == (20_000, (20_002,))
    assert "needs 2 ports, 1 of 3" in refused(place(HardwareRequest(), [host()], [found], ports=2)).reason


def test_the_parts_of_a_machine_share_its_ports() -> None:
    parts = [host("box", gpus=0), host("box/h100")]
    first = placed(place(HardwareRequest(), parts, []))
    second = placed(place(HardwareRequest(gpu_count=1), parts, [first]))
    assert (first.host, second.host) == ("box", "box/h100")
    assert (first.port, second.port) == (20_000, 20_001)
    gone = Placement(host="box/removed", port=20_002)
    assert not isinstance(place(HardwareRequest(), parts, [first, second, gone]), Placement)


def test_everything_is_accounted_for_by_card_where_it_is_said_so() -> None:
    request = HardwareRequest(gpu_count=2, vcpu_per_gpu=3, ram_gib_per_gpu=10, disk_gib=40)
    found = placed(place(request, [host(disk_gib=50)], []))
    assert (found.vcpu, found.ram_gib, found.disk_gib) == (6, 20, 40)
    assert (
        "needs 40 GiB of disk, 10 of 50 free"
        in refused(place(HardwareRequest(disk_gib=40), [host(disk_gib=50)], [found])).reason
    )


# What is best


CHEAP, DEAR = Prices(gpus={"h100": 1.0, "a100": 1.0}), Prices(gpus={"h100": 3.0, "a100": 0.5})


def test_the_cheapest_host_is_taken_whatever_its_name() -> None:
    found = placed(place(HardwareRequest(gpu_count=1), [host("a", prices=DEAR), host("b", prices=CHEAP)], []))
    assert (found.host, found.price, found.currency) == ("b", 1.0, "USD")


def test_what_has_no_price_comes_after_what_has_one() -> None:
    found = placed(place(HardwareRequest(gpu_count=1), [host("a"), host("b", prices=DEAR)], []))
    assert found.host == "b"


def test_among_equal_prices_the_smallest_cards_that_do_are_taken() -> None:
    mixed = replace(host(gpus=0), gpus=(*cards(1, "h100", 80), *cards(2, "a100", 40, first=1)))
    assert placed(place(HardwareRequest(gpu_count=1), [mixed], [])).gpus == (1,)
    assert placed(place(HardwareRequest(gpu_count=1, vram_gib_min=41), [mixed], [])).gpus == (0,)


def test_among_equal_cards_the_fullest_host_is_taken_so_that_whole_hosts_stay_free() -> None:
    held = [Placement(host="b", gpus=(0,))]
    assert placed(place(HardwareRequest(gpu_count=1), [host("a"), host("b")], held)).host == "b"


def test_a_worker_without_cards_keeps_off_hosts_that_have_some() -> None:
    offers = [host("a", gpus=8), host("b", gpus=0)]
    first = placed(place(HardwareRequest(vcpu=8), offers, []))
    assert first.host == "b"
    assert placed(place(HardwareRequest(vcpu=8), offers, [first])).host == "a"


def test_real_cards_come_before_virtual_ones() -> None:
    pretended = replace(host("a"), gpus=tuple(replace(gpu, virtual=True) for gpu in cards(2)), virtual=True)
    assert placed(place(HardwareRequest(gpu_count=1), [pretended, host("b")], [])).host == "b"
    assert placed(place(HardwareRequest(gpu_count=3), [pretended, host("b", gpus=3)], [])).host == "b"


def test_all_cards_of_a_worker_are_alike() -> None:
    mixed = replace(host(gpus=0), gpus=(*cards(1, "h100"), *cards(1, "a100", first=1)))
    reason = refused(place(HardwareRequest(gpu_count=2), [mixed], [])).reason
    assert reason == "a: needs 2 GPU cards of one kind, 1 of 1 free"


def test_one_of_several_families_will_do() -> None:
    request = HardwareRequest(gpu_count=1, gpu_family=("a100", "h100"))
    offers = [host("a", family="h100"), host("b", family="l4"), host("c", family="a100")]
    assert placed(place(request, offers, [])).host == "c", "in the order in which they were asked for"
    assert placed(place(request, offers[:2], [])).host == "a"


def test_memory_is_asked_for_as_vendors_state_it() -> None:
    measured = replace(host(gpus=0), gpus=cards(1, "h100", 79.6))
    assert isinstance(place(HardwareRequest(gpu_count=1, vram_gib_min=80), [measured], []), Placement)
    assert isinstance(place(HardwareRequest(gpu_count=1, vram_gib_min=81), [measured], []), Unplaceable)


# Why not


@pytest.mark.parametrize(
    ("request_", "reason", "ever"),
    [
        pytest.param(HardwareRequest(gpu_count=2), "needs 2 GPU cards, 1 of 2 free", True, id="too few cards free"),
        pytest.param(HardwareRequest(gpu_count=3), "needs 3 GPU cards, 1 of 2 free", False, id="too few cards at all"),
        pytest.param(
            HardwareRequest(gpu_count=1, gpu_family="l4"), "0 of 0 free and 2 of other kinds", False, id="other family"
        ),
        pytest.param(HardwareRequest(gpu_count=1, vram_gib_min=96), "with 96 GiB", False, id="too little memory"),
        pytest.param(HardwareRequest(vcpu=7), "needs 7 vCPU, 6 of 8 free", True, id="too little processor free"),
        pytest.param(HardwareRequest(ram_gib=33), "needs 33 GiB of memory", False, id="too little memory at all"),
        pytest.param(HardwareRequest(region="eu"), "needs region eu, this is local", False, id="elsewhere"),
        pytest.param(HardwareRequest(price_max=1), "has no price here", False, id="a ceiling without prices"),
    ],
)
def test_what_does_not_fit_says_by_how_much(request_: HardwareRequest, reason: str, ever: bool) -> None:
    held = [Placement(host="a", gpus=(0,), vcpu=2.0)]
    found = refused(place(request_, [host()], held))
    assert reason in found.reason
    assert found.ever is ever


def test_a_price_above_the_ceiling_is_said_with_both() -> None:
    request = HardwareRequest(gpu_count=2, price_max=1.5)
    found = refused(place(request, [host(prices=CHEAP)], []))
    assert found.reason == "a: may cost 1.5 an hour, costs 2 USD"
    assert isinstance(place(replace(request, price_max=2), [host(prices=CHEAP)], []), Placement)


def test_all_that_a_host_lacks_is_said_and_the_nearest_host_first() -> None:
    offers = [host("a", gpus=0), host("b", vcpu=6), host("c", vcpu=7)]
    found = refused(place(HardwareRequest(gpu_count=1, vcpu=9), offers, []))
    assert [name for name, _ in found.lacks] == ["c", "b", "a"]
    assert found.reason.startswith("c: needs 9 vCPU, 7 of 7 free; b: needs 9 vCPU, 6 of 6 free; a: needs 1 GPU card")
    assert ", and needs 9 vCPU" in found.reason


def test_a_host_that_will_do_once_it_is_free_is_nearer_than_one_that_never_will() -> None:
    held = [Placement(host="z", gpus=(0, 1))]
    found = refused(place(HardwareRequest(gpu_count=1), [host("a", gpus=0), host("z")], held))
    assert [name for name, _ in found.lacks] == ["z", "a"]


def test_of_many_hosts_the_nearest_are_named_and_the_others_counted() -> None:
    offers = [host(f"h{number:02}", vcpu=number + 1) for number in range(12)]
    reason = refused(place(HardwareRequest(vcpu=100), offers, [])).reason
    assert reason.startswith("h11: ")
    assert reason.endswith("; and 7 more hosts lack more")


def test_what_is_free_is_never_rounded_up_to_what_is_needed() -> None:
    held = [Placement(host="a", vcpu=1.01)]
    assert "needs 7 vCPU, 6.9 of 8 free" in refused(place(HardwareRequest(vcpu=7), [host()], held)).reason


def test_no_host_at_all_is_said_so() -> None:
    assert place(HardwareRequest(), [], []) == Unplaceable("there is no host", ever=False)


def test_ports_run_out_with_their_range_named() -> None:
    held = [Placement(host="a", port=port) for port in (20_000, 20_001, 20_002)]
    assert "0 of 3 from 20000 to 20002" in refused(place(HardwareRequest(), [host()], held)).reason


def test_capacity_counts_the_workers_that_have_room_at_once() -> None:
    offers = [host("a", gpus=3), host("b", gpus=4)]
    assert capacity(HardwareRequest(gpu_count=2), offers, [], most=100) == 3
    assert capacity(HardwareRequest(gpu_count=2), offers, [], most=2) == 2
    assert capacity(HardwareRequest(gpu_count=2), offers, [Placement(host="a", gpus=(0, 1))], most=100) == 2


# Always

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

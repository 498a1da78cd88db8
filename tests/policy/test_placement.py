"""Placement: what fits where, what is best, and why not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy.hosts import cards, host, placed, refused
from stoker.domain.hardware import HardwareRequest, Placement, Prices
from stoker.policy.placement import Unplaceable, capacity, place


def test_a_worker_gets_the_lowest_free_cards_and_port() -> None:
    held = [Placement(host="a", gpus=(0,), port=20_000)]
    found = place(HardwareRequest(gpu_count=1), [host()], held)
    assert found == Placement(host="a", gpus=(1,), port=20_001)


def test_a_worker_of_several_ports_gets_as_many() -> None:
    found = placed(place(HardwareRequest(), [host()], [Placement(host="a", port=20_001)], ports=2))
    assert (found.port, found.ports) == (20_000, (20_002,))
    assert "needs 2 ports, 1 of 3" in refused(place(HardwareRequest(), [host()], [found], ports=2)).reason


def test_ports_where_somebody_else_listens_are_left_out() -> None:
    busy = replace(host(), ports_busy=frozenset({20_000, 20_002}))
    found = placed(place(HardwareRequest(), [busy], []))
    assert found.port == 20_001
    refusal = refused(place(HardwareRequest(), [busy], [found]))
    assert "needs a port, 0 of 3" in refusal.reason
    assert refusal.ever, "whoever it is may end"


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

"""What a pool may ask for, what a card is said to have, and what all of it costs."""

from __future__ import annotations

import pytest

from stoker.domain.errors import Invalid
from stoker.domain.hardware import GpuDevice, HardwareRequest, Placement, PortRange, Prices, VirtualGpus


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        pytest.param({"gpu_count": -1}, "/gpu_count", id="fewer than none"),
        pytest.param({"gpu_count": 65}, "/gpu_count", id="more than any host has"),
        pytest.param({"gpu_family": "h100"}, "/gpu_count", id="a family of no card"),
        pytest.param({"vram_gib_min": 8.0}, "/gpu_count", id="memory of no card"),
        pytest.param({"gpu_count": 1, "vram_gib_min": 0.0}, "/vram_gib_min", id="no memory"),
        pytest.param({"vcpu_per_gpu": 2.0}, "/gpu_count", id="processors of no card"),
        pytest.param({"gpu_count": 1, "vcpu": 1.0, "vcpu_per_gpu": 2.0}, "/vcpu_per_gpu", id="processors twice"),
        pytest.param({"gpu_count": 1, "ram_gib": 1.0, "ram_gib_per_gpu": 2.0}, "/ram_gib_per_gpu", id="memory twice"),
        pytest.param({"gpu_count": 1, "gpu_family": ""}, "/gpu_family", id="a family without a name"),
        pytest.param(
            {"gpu_count": 1, "gpu_family": tuple(map(str, range(17)))}, "/gpu_family", id="more families than there are"
        ),
        pytest.param({"disk_gib": 0.0}, "/disk_gib", id="no disk"),
        pytest.param({"price_max": -1.0}, "/price_max", id="less than nothing"),
        pytest.param({"region": ""}, "/region", id="a region without a name"),
        pytest.param({"vcpu": 0.0}, "/vcpu", id="no CPU"),
        pytest.param({"vcpu": float("nan")}, "/vcpu", id="no number"),
        pytest.param({"ram_gib": float("inf")}, "/ram_gib", id="endless memory"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_at_its_place(values: dict[str, object], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        HardwareRequest(**values)  # type: ignore[arg-type]
    assert [problem.pointer for problem in caught.value.problems] == [pointer]


def test_a_range_has_both_of_its_ends() -> None:
    assert len(PortRange(20_000, 20_009)) == 10


def test_one_family_in_a_list_is_one_family_and_an_empty_list_is_any() -> None:
    assert HardwareRequest(gpu_count=1, gpu_family=("h100", "h100")) == HardwareRequest(gpu_count=1, gpu_family="h100")
    assert HardwareRequest(gpu_count=1, gpu_family=()) == HardwareRequest(gpu_count=1)
    assert HardwareRequest(gpu_count=1, gpu_family=("h100", "l4")).families == ("h100", "l4")


def test_what_is_said_for_each_card_counts_for_all_of_them() -> None:
    request = HardwareRequest(gpu_count=4, vcpu_per_gpu=8, ram_gib_per_gpu=32)
    assert (request.vcpu_all, request.ram_gib_all) == (32, 128)
    assert HardwareRequest(vcpu=2).vcpu_all == 2
    assert HardwareRequest().ram_gib_all is None


@pytest.mark.parametrize(
    ("prices", "price"),
    [
        pytest.param(Prices(gpus={"h100": 2.0}, vcpu=0.1, ram_gib=0.01), 2 * 2.0 + 8 * 0.1 + 32 * 0.01, id="all of it"),
        pytest.param(Prices(gpus={"h100": 2.0}), 4.0, id="the rest is included"),
        pytest.param(Prices(gpus={"l4": 2.0}, vcpu=0.1), None, id="a card without a price is not free of charge"),
        pytest.param(Prices(), None, id="no prices"),
    ],
)
def test_a_worker_costs_its_parts_and_what_has_no_price_is_unknown(prices: Prices, price: float | None) -> None:
    found = prices.of("h100", 2, vcpu=8, ram_gib=32)
    assert found == (None if price is None else pytest.approx(price))


def test_without_cards_only_what_is_asked_for_can_cost() -> None:
    assert Prices(vcpu=0.5).of(None, 0, vcpu=2, ram_gib=4) == 1.0
    assert Prices(vcpu=0.5).of(None, 0, vcpu=None, ram_gib=None) is None
    assert Prices(gpus={"h100": 1}).of(None, 0, vcpu=2, ram_gib=4) is None
    assert Prices(cpu=0.1, vcpu=0.5).of(None, 0, vcpu=2, ram_gib=4) == pytest.approx(1.1)


def test_a_card_has_the_memory_that_its_vendor_states() -> None:
    assert GpuDevice(0, "GPU-0", "h100", 79.6).stated_gib == 80


def test_a_cold_worker_holds_what_it_has_not_let_go_of_and_a_gone_one_its_ports() -> None:
    whole = Placement(host="a", gpus=(1,), vcpu=2, ram_gib=3, disk_gib=4, port=5, ports=(6,), freed=("vcpu", "vram"))
    assert whole.held == Placement(host="a", ram_gib=3, disk_gib=4, port=5, ports=(6,))
    assert whole.addresses == Placement(host="a", port=5, ports=(6,))


@pytest.mark.parametrize("values", [{"count": 0}, {"count": 65}, {"vram_gib": 0}, {"vcpu": -1}, {"ram_gib": 1e9}])
def test_pretended_cards_have_bounds_too(values: dict[str, float]) -> None:
    with pytest.raises(Invalid):
        VirtualGpus(family="a5000", **values)  # type: ignore[arg-type]

"""Placement: what fits where, why not, and that nothing is ever given out twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, Placement, PortRange
from stoker.policy.placement import Unplaceable, place


def host(name: str = "a", *, gpus: int = 2, family: str = "h100", ports: int = 3, vcpu: float = 8) -> Offer:
    devices = tuple(GpuDevice(index=i, id=f"GPU-{i}", family=family, vram_gib=80) for i in range(gpus))
    return Offer(host=name, vcpu=vcpu, ram_gib=32, gpus=devices, ports=PortRange(20_000, 20_000 + ports - 1))


def test_a_worker_gets_the_lowest_free_cards_and_port() -> None:
    held = [Placement(host="a", gpus=(0,), port=20_000)]
    found = place(HardwareRequest(gpu_count=1), [host()], held, port_wanted=True)
    assert found == Placement(host="a", gpus=(1,), port=20_001)


def test_hosts_are_tried_by_name() -> None:
    found = place(HardwareRequest(gpu_count=1), [host("b"), host("a")], [], port_wanted=False)
    assert isinstance(found, Placement)
    assert found.host == "a"


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
    ],
)
def test_what_does_not_fit_says_by_how_much(request_: HardwareRequest, reason: str, ever: bool) -> None:
    held = [Placement(host="a", gpus=(0,), vcpu=2.0)]
    found = place(request_, [host()], held, port_wanted=True)
    assert isinstance(found, Unplaceable)
    assert reason in found.reason
    assert found.ever is ever


def test_no_host_at_all_is_said_so() -> None:
    assert place(HardwareRequest(), [], [], port_wanted=True) == Unplaceable("there is no host", ever=False)


def test_ports_run_out_with_their_range_named() -> None:
    held = [Placement(host="a", port=port) for port in (20_000, 20_001, 20_002)]
    found = place(HardwareRequest(), [host()], held, port_wanted=True)
    assert isinstance(found, Unplaceable)
    assert "20000 to 20002" in found.reason


requests = st.builds(
    lambda count, family, vcpu, ram: HardwareRequest(
        gpu_count=count, gpu_family=family if count else None, vcpu=vcpu, ram_gib=ram
    ),
    count=st.integers(0, 3),
    family=st.sampled_from([None, "h100", "l4"]),
    vcpu=st.one_of(st.none(), st.floats(0.1, 6)),
    ram=st.one_of(st.none(), st.floats(0.1, 20)),
)
offers = st.lists(
    st.builds(host, st.sampled_from("abcd"), gpus=st.integers(0, 4), family=st.sampled_from(["h100", "l4"])),
    max_size=4,
    unique_by=lambda offer: offer.host,
)


@given(offers=offers, wanted=st.lists(requests, max_size=20))
def test_nothing_is_ever_overcommitted(offers: list[Offer], wanted: list[HardwareRequest]) -> None:
    held: list[Placement] = []
    for request in wanted:
        found = place(request, offers, held, port_wanted=True)
        assert found == place(request, list(reversed(offers)), held, port_wanted=True), (
            "the order of hosts is no matter"
        )
        if isinstance(found, Placement):
            held.append(found)
        else:
            assert found.reason
    for offer in offers:
        here = [placement for placement in held if placement.host == offer.host]
        gpus = [gpu for placement in here for gpu in placement.gpus]
        ports = [placement.port for placement in here]
        assert len(gpus) == len(set(gpus))
        assert set(gpus) <= {gpu.index for gpu in offer.gpus}
        assert len(ports) == len(set(ports))
        assert sum(placement.vcpu or 0 for placement in here) <= offer.vcpu + 1e-6
        assert sum(placement.ram_gib or 0 for placement in here) <= offer.ram_gib + 1e-6

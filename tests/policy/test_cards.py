"""The memory of the cards that a request asks for."""

from __future__ import annotations

import pytest

from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer
from stoker.policy.cards import card_gib

OFFER = Offer(
    host="h",
    vcpu=8,
    ram_gib=64,
    gpus=tuple(
        GpuDevice(index=index, id=f"GPU-{index}", family=family, vram_gib=gib)
        for index, (family, gib) in enumerate((("a5000", 23.6), ("a100", 39.6), ("a100", 79.3)))
    ),
)


@pytest.mark.parametrize(
    ("request_", "gib"),
    [
        pytest.param(HardwareRequest(), None, id="no cards"),
        pytest.param(HardwareRequest(gpu_count=1), 80, id="any: the largest there is"),
        pytest.param(HardwareRequest(gpu_count=1, vram_gib_min=20), 20, id="any with so much"),
        pytest.param(HardwareRequest(gpu_count=1, gpu_family="a100"), 80, id="a family: the largest it is made with"),
        pytest.param(HardwareRequest(gpu_count=1, gpu_family="a100", vram_gib_min=30), 40, id="the next size"),
        pytest.param(HardwareRequest(gpu_count=1, gpu_family="h200"), 141, id="a family that is not here"),
        pytest.param(HardwareRequest(gpu_count=1, gpu_family=("a5000", "h100")), 94, id="one of several"),
        pytest.param(HardwareRequest(gpu_count=1, gpu_family="a5000", vram_gib_min=99), 99, id="more than is made"),
        pytest.param(HardwareRequest(gpu_count=1, gpu_family="unknown"), None, id="nobody knows"),
    ],
)
def test_it_is_the_least_that_is_asked_for_else_the_most_that_may_come(
    request_: HardwareRequest, gib: float | None
) -> None:
    assert card_gib(request_, (OFFER,)) == gib


def test_without_a_family_or_hosts_nothing_is_known() -> None:
    assert card_gib(HardwareRequest(gpu_count=1), ()) is None

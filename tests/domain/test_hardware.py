"""Names of cards, and what a pool may ask for."""

from __future__ import annotations

import pytest

from stoker.domain.errors import Invalid
from stoker.domain.hardware import FAMILIES, HardwareRequest, PortRange, family_of


@pytest.mark.parametrize(
    ("spelling", "family"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA H100 NVL", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("NVIDIA RTX A5000", "a5000"),
        ("NVIDIA RTX A6000", "a6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx6000ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtxpro6000"),
        ("NVIDIA GeForce RTX 3080 Ti", "rtx3080ti"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 5090", "rtx5090"),
        ("RTX 4090", "rtx4090"),
        ("gpua5000", "a5000"),
        ("gpu3080ti", "rtx3080ti"),
        ("h100", "h100"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA GeForce RTX 2080 Ti", "geforcertx2080ti"),
        ("Something New 9000", "somethingnew9000"),
    ],
)
def test_drivers_and_clouds_spell_one_family_in_many_ways(spelling: str, family: str) -> None:
    assert family_of(spelling) == family
    assert family_of(family) == family
    assert family_of(spelling.upper()) == family


def test_every_family_is_found_by_all_of_its_spellings() -> None:
    for family in FAMILIES:
        for spelling in (family.name, *family.aliases):
            assert family_of(spelling) == family.name, spelling
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        pytest.param({"gpu_count": -1}, "/gpu_count", id="fewer than none"),
        pytest.param({"gpu_count": 65}, "/gpu_count", id="more than any host has"),
        pytest.param({"gpu_family": "h100"}, "/gpu_count", id="a family of no card"),
        pytest.param({"vram_gib_min": 8.0}, "/gpu_count", id="memory of no card"),
        pytest.param({"gpu_count": 1, "vram_gib_min": 0.0}, "/vram_gib_min", id="no memory"),
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

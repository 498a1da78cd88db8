"""Names of cards: every spelling leads to one family, and back to each cloud's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.errors import Invalid
from stoker.domain.gpus import FAMILIES, SPELLINGS, check_family, family_of, find, recognise, spelled, stated_gib


@pytest.mark.parametrize(
    ("spelling", "family"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA H100 NVL", "h100"),
        ("H100 SXM", "h100"),
        ("H100_SXM5", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA B300 SXM6 AC", "b300"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA_A100_PCIe_40G", "a100"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10"),
        ("NVIDIA A40", "a40"),
        ("gpu3", "a40"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA L40S", "l40s"),
        ("1xL40S", "l40s"),
        ("1xh100-80gb", "h100"),
        ("2x RTX 4090", "rtx4090"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("NVIDIA RTX A5000", "a5000"),
        ("gpua5000", "a5000"),
        ("GPU A5000", "a5000"),
        ("RTX_A5000", "a5000"),
        ("NVIDIA RTX A6000", "a6000"),
        ("Quadro RTX 6000", "rtx6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx6000ada"),
        ("NVIDIA_RTX_6000_Ada_48G", "rtx6000ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtxpro6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "rtxpro6000"),
        ("gpurtx6000pro", "rtxpro6000"),
        ("NVIDIA GeForce RTX 3080 Ti", "rtx3080ti"),
        ("gpu3080ti", "rtx3080ti"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("RTX 4090", "rtx4090"),
        ("4090", "rtx4090"),
        ("RTX 4070 Ti SUPER", "rtx4070tisuper"),
        ("NVIDIA GeForce RTX 5090", "rtx5090"),
        ("AMD Instinct MI300X", "mi300x"),
        ("AWS_Trainium_32G", "trainium"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "rtx4090laptop"),
        ("Something New 9000", "somethingnew9000"),
    ],
)
def test_drivers_and_clouds_spell_one_family_in_many_ways(spelling: str, family: str) -> None:
    assert family_of(spelling) == family
    assert family_of(family) == family
    assert family_of(spelling.upper()) == family


def test_a_name_tells_memory_and_number_of_cards_where_it_has_them() -> None:
    assert (recognise("2xa100-40gb").count, recognise("2xa100-40gb").vram_gib) == (2, 40)
    assert recognise("A100 80 GB").vram_gib == 80
    assert (recognise("h100").count, recognise("h100").vram_gib) == (None, None)


def test_every_family_is_found_by_all_of_its_names_and_by_no_other_ones() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert find(family.name) is family
        assert list(family.vram_gib) == sorted(family.vram_gib)
        for name in (family.name, family.label, f"{family.vendor} {family.label}", *family.aliases):
            assert family_of(name) == family.name, name


@pytest.mark.parametrize("cloud", sorted(SPELLINGS))
def test_what_a_cloud_is_told_means_the_same_card_when_it_comes_back(cloud: str) -> None:
    seen: dict[str, str] = {}
    for family in FAMILIES:
        for vram in family.vram_gib:
            text = spelled(family.name, cloud, vram_gib=vram, count=2)
            back = recognise(text)
            assert back.family == family.name, text
            assert back.vram_gib in (None, vram), text
            assert back.count in (None, 2), text
            assert seen.setdefault(text, family.name) == family.name


@pytest.mark.parametrize(
    ("cloud", "family", "vram", "text"),
    [
        ("exoscale", "a5000", 24, "gpua5000"),
        ("exoscale", "rtx3080ti", 12, "gpu3080ti"),
        ("exoscale", "rtxpro6000", 96, "gpurtx6000pro"),
        ("gcore", "h100", 79.6, "1xh100-80gb"),
        ("novita", "rtx4090", 24, "RTX 4090 24GB"),
        ("vast", "a5000", 24, "RTX A5000"),
        ("yotta", "rtx6000ada", 48, "NVIDIA_RTX_6000_Ada_48G"),
        ("yotta", "mi300x", 192, "AMD_MI300X_192G"),
        ("yotta", "somethingnew", 7, "NVIDIA_somethingnew_7G"),
    ],
)
def test_each_cloud_has_its_own_way_to_write_a_card(cloud: str, family: str, vram: float, text: str) -> None:
    assert spelled(family, cloud, vram_gib=vram) == text


@pytest.mark.parametrize(
    ("name", "hint"),
    [("h1000", "did you mean .*h100"), ("rtx409", "did you mean .*rtx4090"), ("zzzzzz", "`stoker hardware` shows")],
)
def test_an_unknown_family_is_refused_with_what_comes_near(name: str, hint: str) -> None:
    with pytest.raises(Invalid, match=hint) as caught:
        check_family(name, "/x")
    assert caught.value.problems[0].pointer == "/x"


def test_a_family_that_a_host_has_is_known_even_outside_the_table() -> None:
    check_family("somethingnew", "/x", also=["somethingnew"])
    check_family("h100", "/x")
    with pytest.raises(Invalid, match="did you mean somethingnew"):
        check_family("somethingnex", "/x", also=["somethingnew"])


@pytest.mark.parametrize(
    ("family", "measured", "stated"),
    [
        ("h100", 79.6, 80),
        ("h100", 93.1, 94),
        ("t4", 15.0, 16),
        ("l4", 22.5, 24),
        ("b200", 179.1, 180),
        ("a100", 39.4, 40),
        ("a100", 79.3, 80),
        ("a100", 60.0, 60.0),
        ("somethingnew", 7.7, 7.7),
    ],
)
def test_memory_is_what_the_vendor_states_when_the_driver_reports_little_less(
    family: str, measured: float, stated: float
) -> None:
    assert stated_gib(family, measured) == stated


@given(st.text(max_size=300))
def test_any_text_can_be_asked_for_and_what_it_means_means_itself(text: str) -> None:
    found = recognise(text)
    assert len(found.family) <= 64
    if found.known:
        assert find(found.family) is not None
        assert family_of(found.family) == found.family

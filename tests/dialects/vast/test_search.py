"""The grammar of what offers are asked for, and of what is launched on them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.dialects.vast import launching, search
from stoker.domain.errors import Invalid


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("", {}),
        ("verified=True rentable=True rented=False", search.DEFAULT),
        ("gpu_name=RTX_4090", {"gpu_name": {"eq": "RTX 4090"}}),
        ('gpu_name = "RTX 4090"', {"gpu_name": {"eq": "RTX 4090"}}),
        ("gpu_name in [RTX_4090, H100]", {"gpu_name": {"in": ["RTX 4090", "H100"]}}),
        ("geolocation notin [CN,VN]", {"geolocation": {"notin": ["CN", "VN"]}}),
        ("geolocation not in [CN]", {"geolocation": {"notin": ["CN"]}}),
        ("gpu_ram>=23", {"gpu_ram": {"gte": 23_000.0}}),
        ("gpu_ram >= 23 gpu_ram < 80", {"gpu_ram": {"gte": 23_000.0, "lt": 80_000.0}}),
        ("num_gpus gte 2", {"num_gpus": {"gte": 2}}),
        ("dph<0.5 cuda_vers>=12.4", {"dph_total": {"lt": 0.5}, "cuda_max_good": {"gte": 12.4}}),
        ("duration>3", {"duration": {"gt": 259_200.0}}),
        ("verified=true verified=any", {}),
        ("datacenter!=false", {"datacenter": {"neq": False}}),
    ],
)
def test_terms_are_read(text: str, query: dict[str, Any]) -> None:
    assert search.parsed(text) == query


@pytest.mark.parametrize("text", ["gpu_ram", "gpu_ram >=", "= 3", "a=[1", "a=1 b", "a=[1] c in", "a='b", "a=[1,2]"])
def test_what_is_no_term_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        search.parsed(text)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        query = search.parsed(text)
    except Invalid:
        return
    try:
        search.hardware(query, regions=("local",))
    except Invalid:
        return


@given(
    st.integers(1, 8),
    st.integers(1, 80),
    st.sampled_from([">=", "=", "=="]),
    st.sampled_from(["", " ", "  "]),
)
def test_numbers_mean_hardware_however_they_are_spaced(count: int, ram: int, op: str, gap: str) -> None:
    text = f"num_gpus{gap}{op}{gap}{count} gpu_ram{gap}>={gap}{ram} verified=True"
    hardware = search.hardware(search.parsed(text), regions=())
    assert (hardware.gpu_count, hardware.vram_gib_min) == (count, ram)


def test_memory_of_a_card_that_is_said_asks_for_a_card() -> None:
    assert search.hardware({}, regions=()).gpu_count == 0
    hardware = search.hardware({}, gpu_ram_gb=24, regions=())
    assert (hardware.gpu_count, hardware.vram_gib_min) == (1, 24)
    wanted = search.hardware(
        search.parsed("gpu_name in [RTX_4090,A100] num_gpus>1 dph<=2 geolocation=eu"), regions=("eu",)
    )
    assert (wanted.families, wanted.gpu_count) == (("rtx4090", "a100"), 2)
    assert (wanted.price_max, wanted.region) == (2, "eu")


def test_arguments_are_those_of_the_command_line() -> None:
    asked = launching.of_arguments(
        "--disk 64 --image repo/name:tag --env '-e A=b -e C=\"d e\" -p 8000:8000 -p 9000:90/tcp' --ssh --direct "
        "--login '-u me -p pw registry.test' --args --model x --port 8000"
    )
    assert (asked.launch.image, asked.launch.env) == ("repo/name:tag", {"A": "b", "C": "d e"})
    assert (asked.launch.port, asked.launch.ports, asked.disk_gib) == (8000, (90,), 64)
    assert asked.launch.command == ("--model", "x", "--port", "8000")
    assert asked.login == launching.Login("registry.test", "me", "pw")
    assert "pw" not in repr(asked)
    assert launching.of_arguments("--image x --onstart-cmd 'a && b'").launch.command == ("sh", "-c", "a && b")
    assert launching.of_arguments("--image x --entrypoint y --args z").launch.command == ("y", "z")


@given(st.text(max_size=60))
def test_any_arguments_are_read_or_refused(text: str) -> None:
    try:
        launching.of_arguments(f"--image x {text}")
    except Invalid:
        return

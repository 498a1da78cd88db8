"""Flavors: what machines have, by that cloud's rule of names, and how much of it is free."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from dialects.gcore.client import Cloud, container, play
from stoker.dialects.gcore.flavors import Flavor, name_for, name_of
from stoker.domain.hardware import HardwareRequest

RULE = re.compile(r"inference-(\d+)vcpu-(\d+)gib(-\d+x[a-z0-9-]+-\d+gb)?")


def test_names_are_made_by_rule() -> None:
    assert name_of(4, 16) == "inference-4vcpu-16gib"
    assert name_of(16, 232, gpus=1, family="h100", vram_gib=80) == "inference-16vcpu-232gib-1xh100-80gb"
    assert name_of(64, 928, gpus=4, family="a100", vram_gib=80) == "inference-64vcpu-928gib-4xa100-80gb"


@given(st.integers(0, 512), st.integers(0, 4096), st.integers(0, 16), st.sampled_from(["l40s", "h100", "a5000"]))
def test_every_name_keeps_to_the_rule(vcpu: int, ram_gib: int, gpus: int, family: str) -> None:
    found = RULE.fullmatch(name_of(vcpu, ram_gib, gpus=gpus, family=family, vram_gib=48))
    assert found is not None
    assert (found[1], found[2], found[3] is not None) == (str(vcpu), str(ram_gib), gpus > 0)


def test_what_a_pool_asks_for_has_a_name_whether_it_is_listed_or_not() -> None:
    flavor = Flavor(name="any", vcpu=8, ram_gib=32, gpus=2, family="l40s", vram_gib=48)
    assert name_for(flavor.hardware("local")) == "inference-8vcpu-32gib-2xl40s-48gb"
    assert name_for(HardwareRequest()) == "inference-0vcpu-0gib"
    assert flavor.description == "2xl40s / 8 vCPU / 32GiB RAM"


def test_a_flavor_asks_for_all_that_it_has() -> None:
    asked = Flavor(name="any", vcpu=2, ram_gib=8).hardware("local")
    assert (asked.gpu_family, asked.gpu_count, asked.vcpu, asked.ram_gib, asked.region) == (None, 0, 2, 8, "local")


def test_capacity_shrinks_by_what_is_taken_and_comes_back() -> None:
    async def main(cloud: Cloud) -> None:
        async def free(name: str) -> int:
            [region] = (await cloud.ok("GET", "/v3/inference/capacity"))["results"]
            [count] = [each["capacity"] for each in region["capacity"] if each["flavor_name"] == name]
            return int(count)

        [card] = [each for each in (await cloud.ok("GET", "/v3/inference/flavors"))["results"] if each["gpu"]]
        assert await free(card["name"]) == 1
        await cloud.deploy("card", flavor_name=card["name"], containers=[container(min=1, max=1)])
        assert await free(card["name"]) == 0
        [task] = (await cloud.ok("DELETE", "/v3/inference/1/deployments/card"))["tasks"]
        await cloud.finished(task)
        assert await free(card["name"]) == 1

    play(main)

"""Hardware through the native API: search, use by whom, instance types."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from api.client import Api, run
from simulation.world import ADMIN, spec
from stoker.domain.endpoint import ProjectId
from stoker.domain.hardware import HardwareRequest


async def offers(api: Api, query: str = "") -> dict[str, Any]:
    answer = await api.call("GET", f"/hardware{query}")
    assert answer.status == 200, answer.body
    return {offer["provider"]: offer for offer in answer.json["offers"]}


def test_it_shows_what_is_free_and_used_and_by_whom() -> None:
    async def body(api: Api) -> None:
        pool = {"provider": "fake", "hardware": {"gpu_count": 1, "vcpu": 2.5, "ram_gib": 8}, "bounds": {"min": 1}}
        await api.create(pools=[pool])
        await asyncio.sleep(10)
        found = await offers(api)
        used = found["fake"]["used"]
        [holder] = used.pop("by")
        assert used == {"vcpu": 2.5, "ram_gib": 8, "disk_gib": 0, "gpus": [0], "workers": 1}
        assert (holder["endpoint"], holder["state"], holder["gpus"], holder["vcpu"]) == ("e", "ready", [0], 2.5)
        assert found["fake"]["free"] == {"vcpu": 997.5, "ram_gib": 992, "disk_gib": None, "gpus": []}
        assert found["process"]["used"]["workers"] == 0
        [gpu] = found["fake"]["gpus"]
        assert (gpu["family"], gpu["vram_gib"], gpu["virtual"]) == ("h100", 80, False)
        assert (found["fake"]["region"], found["fake"]["region_number"]) == ("local", 1)
        [worker] = (await api.call("GET", "/workers")).json["items"]
        assert (worker["region"], worker["virtual"], worker["price_per_hour"]) == ("local", False, None)

    run(body)


def test_workers_of_other_projects_are_counted_and_not_named() -> None:
    async def body(api: Api) -> None:
        await api.create(pools=[{"provider": "fake", "hardware": {"vcpu": 1}, "bounds": {"min": 2, "max": 2}}])
        await asyncio.sleep(10)
        stranger = replace(ADMIN, project=ProjectId(2))
        [host, _] = api.world.stoker.services.views.hosts(stranger, HardwareRequest())
        assert (host.workers, host.vcpu_used, host.holders) == (2, 2.0, ())
        [host, _] = api.world.stoker.services.views.hosts(ADMIN, HardwareRequest())
        assert [holder.endpoint for holder in host.holders] == ["e", "e"]

    run(body)


def test_a_search_leaves_out_what_could_never_run_it_and_says_what_is_lacking_now() -> None:
    async def body(api: Api) -> None:
        assert set(await offers(api, "?gpu_family=NVIDIA%20H100%2080GB%20HBM3")) == {"fake", "process"}
        for never in (
            "gpu_family=a100",
            "gpu_count=2",
            "vram_gib_min=81",
            "vcpu=1001",
            "ram_gib=1001",
            "price_max=1",
            "region=eu",
        ):
            assert await offers(api, f"?{never}") == {}, never
        assert set(await offers(api, "?gpu_family=a100&gpu_family=h100")) == {"fake", "process"}
        await api.create(pools=[{"provider": "fake", "hardware": {"gpu_count": 1}, "bounds": {"min": 1}}])
        await asyncio.sleep(10)
        found = await offers(api, "?gpu_count=1")
        assert (found["fake"]["fits"], found["process"]["fits"]) == (0, 1)
        assert found["fake"]["lacks"] == ["needs 1 GPU card, 0 of 1 free"]
        assert found["process"]["lacks"] == []

    run(body)


def test_a_search_that_makes_no_sense_is_refused() -> None:
    async def body(api: Api) -> None:
        for query, pointer, word in (
            ("gpu_family=h1000", "/gpu_family", "did you mean"),
            ("gpu_count=x", "/gpu_count", "integer"),
            ("vcpu=-1", "/vcpu", "greater"),
            ("vcpu=nan", "/vcpu", ""),
        ):
            for path in ("/hardware", "/hardware/types"):
                answer = await api.call("GET", f"{path}?{query}")
                assert answer.status == 422, query
                [error] = answer.json["errors"]
                assert error["pointer"] == pointer
                assert word in error["detail"]

    run(body)


def test_instance_types_are_families_times_counts() -> None:
    async def body(api: Api) -> None:
        items = (await api.call("GET", "/hardware/types")).json["items"]
        assert [(t["provider"], t["family"], t["label"], t["vendor"], t["count"]) for t in items] == [
            ("fake", "h100", "H100", "NVIDIA", 1),
            ("process", "h100", "H100", "NVIDIA", 1),
        ]
        assert (items[0]["total"], items[0]["free"], items[0]["region_number"]) == (1, 1, 1)
        for query, count in (("gpu_family=h100", 2), ("gpu_family=l4", 0), ("gpu_count=2", 0), ("price_max=9", 0)):
            assert len((await api.call("GET", f"/hardware/types?{query}")).json["items"]) == count, query

    run(body)


def test_a_family_is_known_in_any_spelling_and_shown_in_its_own() -> None:
    async def body(api: Api) -> None:
        hardware = {"gpu_family": "1xH100-80GB"}
        made = await api.create(pools=[{"provider": "fake", "hardware": hardware}])
        shown = made["spec"]["pools"][0]["hardware"]
        assert (shown["gpu_family"], shown["gpu_count"], shown["vram_gib_min"]) == ("h100", 1, 80)
        several = {"gpu_family": ["RTX 4090", "gpua5000", "H100 SXM"], "gpu_count": 1}
        made = await api.create(name="f", pools=[{"provider": "fake", "hardware": several}])
        assert made["spec"]["pools"][0]["hardware"]["gpu_family"] == ["rtx4090", "a5000", "h100"]

    run(body)


def test_a_worker_of_virtual_cards_is_shown_as_such() -> None:
    # Through all of control: the fake provider offers what the settings pretend.
    async def body(api: Api) -> None:
        managed = api.world.stoker.providers.get("fake")
        pretended = tuple(
            replace(offer, virtual=True, gpus=tuple(replace(gpu, virtual=True) for gpu in offer.gpus))
            for offer in managed.offers
        )
        managed.offers = pretended
        endpoint = await api.world.create(spec("v", low=1, hardware=HardwareRequest(gpu_count=1)))
        await asyncio.sleep(10)
        [worker] = (await api.call("GET", f"/endpoints/{endpoint.slug}/workers")).json["items"]
        assert (worker["virtual"], worker["gpus"]) == (True, [0])
        [started] = api.world.provider.workers.values()
        assert (started.spec.gpus, started.spec.virtual_gpus) == ((), (0,))

    run(body)

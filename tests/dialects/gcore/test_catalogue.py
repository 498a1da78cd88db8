"""Models, prices, limits, projects, regions, and how old lines of output may be."""

from __future__ import annotations

from uuid import UUID

import pytest

from dialects.gcore.client import DEPLOYMENTS, FLAVOR, Cloud, container, play, told
from stoker.providers.base import LogLine
from stoker.providers.fake import FakeProvider

MODELS = "/v3/inference/models"
DAY_S = 86_400


def test_models_are_those_of_the_catalogue_with_an_image_to_deploy() -> None:
    async def main(cloud: Cloud) -> None:
        page = await cloud.ok("GET", MODELS)
        names = [each["name"] for each in page["results"]]
        assert names == sorted(names)
        assert [each["name"] for each in (await cloud.ok("GET", f"{MODELS}?order_by=name.desc"))["results"]] == names[
            ::-1
        ]
        [smol] = [each for each in page["results"] if each["name"] == "smollm2"]
        assert UUID(smol["id"])
        assert (smol["model_id"], smol["image_url"]) == ("smollm2", "stoker/models/smollm2")
        assert await cloud.ok("GET", f"{MODELS}/{smol['id']}") == smol
        told(await cloud.call("GET", f"{MODELS}/none"), 404, "NotFoundError")
        got = await cloud.deploy("chat", image=smol["image_url"])
        assert got["image"] == smol["image_url"]
        wrong = {"name": "none", "image": "stoker/models/none", "listening_port": 80, "flavor_name": FLAVOR}
        answer = await cloud.call("POST", DEPLOYMENTS, {**wrong, "containers": [container()]})
        assert list(told(answer, 400, "ValidationError")) == ["image"]

    play(main)


@pytest.mark.parametrize("path", ["/v2/pricing/inference/deployments", f"{DEPLOYMENTS}/check_limits"])
def test_nothing_is_rationed_or_priced_but_what_cannot_be_is_refused(path: str) -> None:
    async def main(cloud: Cloud) -> None:
        asked = {"flavor_name": FLAVOR, "containers": [container()]}
        answer = await cloud.ok("POST", path, asked)
        assert answer == {} or (answer["price_status"], answer["price_per_hour"]) == ("hide", None)
        unknown = await cloud.call("POST", path, {**asked, "flavor_name": "none"})
        assert list(told(unknown, 400, "ValidationError")) == ["flavor_name"]
        elsewhere = await cloud.call("POST", path, {**asked, "containers": [container(9)]})
        assert list(told(elsewhere, 400, "ValidationError")) == ["containers.0.region_id"]

    play(main)


def test_projects_and_regions_are_found_by_name_and_number() -> None:
    async def main(cloud: Cloud) -> None:
        [first] = (await cloud.ok("GET", "/v1/projects?name=default"))["results"]
        assert (first["id"], first["is_default"], first["state"]) == (1, True, "ACTIVE")
        assert await cloud.ok("GET", "/v1/projects/1") == first
        assert (await cloud.ok("GET", "/v1/projects?name=nobody"))["count"] == 0
        told(await cloud.call("GET", "/v1/projects/9"), 404, "NotFoundError")
        [region] = (await cloud.ok("GET", "/v1/regions?product=inference&display_name=LOCAL"))["results"]
        assert (region["id"], region["has_ai_gpu"]) == (1, True)
        assert await cloud.ok("GET", "/v1/regions/1") == region
        assert (await cloud.ok("GET", "/v1/regions?product=containers"))["count"] == 0
        told(await cloud.call("GET", "/v1/regions/9"), 404, "NotFoundError")

    play(main)


def test_lines_older_than_the_retention_are_not_shown() -> None:
    async def main(cloud: Cloud) -> None:
        keeping = {"enabled": True, "retention_policy": {"period": 2}}
        await cloud.deploy("kept", logging=keeping)
        await cloud.deploy("free")

        now = cloud.api.world.stoker.clock()
        for provider in cloud.api.world.providers.values():
            assert isinstance(provider, FakeProvider)
            for worker in provider.workers.values():
                worker.output += [LogLine(now - days * DAY_S, "stdout", f"{days} days") for days in (3, 1)]

        async def shown(name: str, query: str = "") -> list[str]:
            page = await cloud.ok("GET", f"{DEPLOYMENTS}/{name}/logs?order_by=time.asc{query}")
            return [line["message"] for line in page["results"]]

        assert await shown("kept") == ["1 days"]
        assert await shown("free") == ["3 days", "1 days"]
        assert await shown("free", "&region_id=1&limit=1&offset=1") == ["1 days"]
        assert await shown("free", "&region_id=7") == []

    play(main)

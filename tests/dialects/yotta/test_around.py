"""What stands around endpoints in Yotta's API: workers, their output, cards, log-ins, and the API's own page."""

from __future__ import annotations

from typing import Any

import pytest

from api.client import Exchange
from dialects.yotta.client import CARD, ENDPOINTS, ROOT, Cloud, invalid, play, told
from dialects.yotta.client import endpoint as wanted
from simulation.virtual import wall
from stoker.dialects.yotta.caller import ACTIONS
from stoker.dialects.yotta.errors import translated

NO_RECORD = (404, 10007, "Record does not exist")
LOGINS = "/v2/container-registry-auths"


# Workers


def test_workers_are_listed_while_they_are_there_and_when_their_status_is_asked_for() -> None:
    async def main(cloud: Cloud) -> None:
        made = await cloud.make(resources=[CARD], minSingleCardVcpu=2)
        at = f"{ENDPOINTS}/{made['id']}/workers"
        [starting] = await cloud.ok("GET", f"{at}?statusList=INITIALIZING")
        assert (starting["status"], starting["gpuType"]) == ("INITIALIZE", "NVIDIA_H100_80G")
        await cloud.reaches(made["id"], "RUNNING")
        [worker] = await cloud.ok("GET", at)
        assert {name: worker[name] for name in ("id", "workerId", "gpuCount", "region")} == {
            "id": starting["id"],
            "workerId": starting["id"],
            "gpuCount": 1,
            "region": "local",
        }
        assert (worker["gpuDisplayName"], worker["singleCardVramInGb"], worker["singleCardVcpu"]) == (
            *("NVIDIA H100", 80, 2),
        )
        assert (worker["status"], worker["cost"]) == ("RUNNING", 0)
        await cloud.ok("POST", f"{ENDPOINTS}/{made['id']}/stop")
        await cloud.reaches(made["id"], "STOPPED")
        assert await cloud.ok("GET", at) == []
        [gone] = await cloud.ok("GET", f"{at}?statusList=TERMINATED,FAILED")
        assert (gone["id"], gone["status"]) == (worker["id"], "TERMINATED")
        assert invalid(await cloud.call("GET", f"{at}?statusList=GONE")) == ["/statusList"]

    play(main)


def test_output_is_read_page_by_page_in_both_directions() -> None:
    async def main(cloud: Cloud) -> None:
        made = await cloud.make()
        await cloud.reaches(made["id"], "RUNNING")
        provider = cloud.api.world.provider
        began = wall()
        [id] = provider.workers
        for n in range(7):
            provider.say(id, f"line {n}{' odd' if n % 2 else ''}")
        [worker] = await cloud.ok("GET", f"{ENDPOINTS}/{made['id']}/workers")
        at = f"{ENDPOINTS}/{made['id']}/workers/{worker['id']}/logs"

        async def texts(query: str) -> list[str]:
            return [line["log"] for line in (await cloud.ok("GET", f"{at}?{query}"))["logs"]]

        seen: list[str] = []
        more, query = True, ""
        while more:
            page = await cloud.ok("GET", f"{at}?pageSize=3{query}")
            seen += [line["log"] for line in page["logs"]]
            more = page["hasMore"]
            # Those of one millisecond are told apart by the offset.
            query = f"&searchAfterTime={page['nextSearchAfterTime']}&searchAfterOffset={page['nextSearchAfterOffset']}"
        assert [text[:6] for text in seen] == [f"line {n}" for n in range(7)]
        assert (await texts("direction=Backward&pageSize=2"))[0].startswith("line 6")
        assert len(await texts("keyword=odd")) == 3
        assert await texts(f"startTime={int((began + 60) * 1000)}") == []
        assert await texts("endTime=2001-01-01T00:00:00Z") == []
        assert len(await texts("startTime=2001-01-01T00:00:00&searchAfterTime=2001-01-01T00:00:00%2B01:00")) == 7
        past = await cloud.ok("GET", f"{at}?searchAfterOffset={10**18}")
        assert past == {"logs": [], "hasMore": False, "nextSearchAfterTime": None, "nextSearchAfterOffset": None}
        for wrong in ("pageSize=0", "pageSize=1001", "startTime=noon", "searchAfterOffset=x", "direction=Up"):
            invalid(await cloud.call("GET", f"{at}?{wrong}"))
        for other in ("999", "x"):
            told(await cloud.call("GET", f"{ENDPOINTS}/{made['id']}/workers/{other}/logs"), *NO_RECORD)

    play(main)


# Cards


SEARCHES: tuple[tuple[dict[str, Any], int], ...] = (
    ({"queryType": 1}, 1),
    ({}, 0),
    ({"queryType": 2}, 0),
    ({"queryType": 1, "gpuTypes": ["NVIDIA_H100_80G", "NVIDIA_L4_24G"], "regions": ["local", "moon"]}, 1),
    ({"queryType": 1, "gpuTypes": ["NVIDIA_L4_24G"]}, 0),
    ({"queryType": 1, "regions": ["moon"]}, 0),
    ({"queryType": 1, "minSingleCardVramInGb": 80, "maxSingleCardVramInGb": 80}, 1),
    ({"queryType": 1, "minSingleCardVramInGb": 81}, 0),
    ({"queryType": 1, "maxSingleCardVramInGb": 79}, 0),
    ({"queryType": 1, "minSingleCardRamInGb": 1_001}, 0),
    ({"queryType": 1, "maxSingleCardRamInGb": 999}, 0),
)


def test_cards_are_searched_by_all_that_is_said() -> None:
    async def main(cloud: Cloud) -> None:
        for search, found in SEARCHES:
            offers = await cloud.ok("POST", "/api/v2/resource/gpu/list", search)
            # Both providers of this world have the same machine.
            assert len({each["gpuType"] for each in offers}) == found, search
            for each in offers:
                assert (each["gpuType"], each["singleCardVramInGb"], each["price"]) == ("NVIDIA_H100_80G", 80, None)
        assert invalid(await cloud.call("POST", "/api/v2/resource/gpu/list", {"queryType": 3})) == ["/queryType"]

    play(main)


def test_types_are_shown_with_their_regions_and_whether_one_is_free() -> None:
    async def main(cloud: Cloud) -> None:
        region = {"region": "local", "regionName": "local", "available": True, "vmTypeId": 1}
        assert await cloud.ok("GET", "/v2/vms/types") == [{"gpuType": "NVIDIA_H100_80G", "regions": [region]}]

    play(main)


# Log-ins


def test_a_log_in_is_kept_by_its_type_renamed_and_held_by_who_uses_it() -> None:
    async def main(cloud: Cloud) -> None:
        made = {}
        for type in ("DOCKER_HUB", "GCR", "ECR", "ACR", "PRIVATE"):
            body = {"name": type.lower(), "type": type, "username": "u", "password": "p"}
            made[type] = await cloud.ok("POST", LOGINS, body)
            assert (made[type]["type"], set(made[type])) == (type, {"id", "name", "type", "createdAt"})
        assert await cloud.ok("GET", LOGINS) == [*made.values()]
        at = f"{LOGINS}/{made['ECR']['id']}"
        assert (await cloud.ok("PATCH", at, {"name": "renamed", "password": "q"}))["name"] == "renamed"
        told(await cloud.call("PATCH", at, {"name": "gcr"}), 409, 12001, "Resource status invalid")
        invalid(await cloud.call("PATCH", at, {"name": "1"}))
        invalid(await cloud.call("POST", LOGINS, {"name": "gcr", "type": "GCR", "username": "u", "password": "p"}))
        private = {"imageRegistry": "https://1.dkr.ecr.eu.amazonaws.com", "containerRegistryAuthId": made["ECR"]["id"]}
        endpoint = await cloud.make(**private)
        elsewhere = dict(private, imageRegistry="https://evil.test")
        refused = await cloud.call("POST", ENDPOINTS, wanted("other", **elsewhere))
        assert invalid(refused) == ["/containerRegistryAuthId"], "a password is shown to no other registry"
        for method in ("DELETE", "PATCH"):
            told(await cloud.call(method, at, {"name": "again"}), 409, 12001, "Resource status invalid")
        await cloud.ok("POST", f"{ENDPOINTS}/{endpoint['id']}/stop")
        await cloud.ok("PATCH", f"{ENDPOINTS}/{endpoint['id']}", {"credentialId": None})
        assert await cloud.ok("DELETE", at) is True
        for id in (made["ECR"]["id"], "gcr", "0"):
            told(await cloud.call("GET", f"{LOGINS}/{id}"), *NO_RECORD)
        native = {"name": "own", "registry": "quay.io", "username": "u", "password": "p"}
        assert (await cloud.api.call("POST", "/registry-credentials", native)).status == 201
        assert (await cloud.ok("GET", LOGINS))[-1]["type"] == "PRIVATE"

    play(main)


# The page


def test_at_the_clouds_own_host_the_api_begins_at_the_root() -> None:
    async def main(cloud: Cloud) -> None:
        async def at(host: str, target: str) -> int:
            headers = {"host": host, "X-API-Key": cloud.api.secret}
            return (await Exchange(cloud.api.app, "GET", target, headers, b"").answer()).status

        assert await at("api.yottalabs.ai", "/v2/serverless") == 200
        assert await at("api.yottalabs.ai", "//v2/serverless") == 200
        assert await at("127.0.0.1:7878", f"{ROOT}//v2//serverless") == 200
        assert await at("127.0.0.1:7878", "/v2/serverless") == 404
        told(await cloud.call("GET", "/v2/pods"), *NO_RECORD)
        told(await cloud.call("PUT", "/v2/serverless"), *NO_RECORD)

    play(main)


def test_every_operation_has_an_action_and_a_description_with_its_errors() -> None:
    async def main(cloud: Cloud) -> None:
        description = (await cloud.call("GET", "/v2/openapi.json")).json
        operations = [each for methods in description["paths"].values() for each in methods.values()]
        assert {each["operationId"] for each in operations} == set(ACTIONS)
        for each in operations:
            assert set(each["responses"]) == {"200", "400", "401", "404", "409", "429", "500"}, each["operationId"]

    play(main)


def test_a_fault_of_our_own_is_told_as_one() -> None:
    async def main(cloud: Cloud) -> None:
        async def broken(*_arguments: object, **_more: object) -> None:
            raise RuntimeError("disk on fire")

        cloud.api.world.stoker.services.credentials.page = broken  # type: ignore[method-assign,assignment]
        # The server, which is not here, logs what goes on through the answer.
        with pytest.raises(RuntimeError):
            await cloud.call("GET", LOGINS)

    play(main)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("/launch/image", "/image"),
        ("/launch/env/A", "/environmentVars"),
        ("/pools/0/hardware/region", "/resources"),
        ("/ports", "/ports"),
        ("/port", "/workerPort"),
        ("/min", "/workers"),
        ("/minSingleCardVcpu", "/minSingleCardVcpu"),
        ("/vcpu_per_gpu", "/minSingleCardVcpu"),
        ("/gpu_count", "/resources"),
        ("/idle", "/idle"),
    ],
)
def test_places_are_told_in_the_words_of_this_api(ours: str, theirs: str) -> None:
    assert translated(ours) == theirs

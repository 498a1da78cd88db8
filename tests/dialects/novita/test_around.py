"""What stands around endpoints in Novita's API: limits, clusters, products, registry auths, storages, and errors."""

from __future__ import annotations

import json
from pathlib import Path

from api.client import Exchange
from dialects.novita.client import CARD, ROOT, Cloud, asked, play, told
from stoker.dialects.novita.products import product_of
from stoker.domain.access import Scope
from stoker.domain.hardware import HardwareRequest


def test_limits_are_whole_numbers_in_order() -> None:
    async def body(cloud: Cloud) -> None:
        limits = await cloud.ok("GET", "/endpoint/limit")
        assert limits.pop("cudaVersionList") == []
        lows = {name.removeprefix("min"): value for name, value in limits.items() if name.startswith("min")}
        assert len(limits) == 18
        assert all(value <= limits[f"max{name}"] for name, value in lows.items())

    play(body)


def test_products_are_kinds_of_cards_and_can_be_searched() -> None:
    async def body(cloud: Cloud) -> None:
        async def ids(query: str = "") -> list[str]:
            return [each["id"] for each in (await cloud.ok("GET", f"/products{query}"))["data"]]

        assert await ids() == [CARD, "cpu"]
        for query, found in (
            ("?gpuNum=1", [CARD]),
            ("?gpuNum=0", [CARD, "cpu"]),
            ("?gpuNum=2", []),
            ("?productName=h100", [CARD]),
            ("?clusterId=local", [CARD, "cpu"]),
            ("?clusterId=mars", []),
            ("?minCpuPerGpu=1000&minMemoryPerGpu=1000", [CARD]),
            ("?minCpuPerGpu=1001", []),
            ("?minRootFSSize=131", []),
            ("?billingMethod=spot", []),
        ):
            assert await ids(query) == found, query
        [cluster] = (await cloud.ok("GET", "/clusters"))["data"]
        assert (cluster["id"], cluster["availableGpuType"]) == ("local", ["H100 80GB"])
        assert await cloud.ok("GET", "/cpu/products") == {"data": []}

    play(body)


def test_one_log_in_for_each_registry_which_endpoints_refer_to() -> None:
    async def body(cloud: Cloud) -> None:
        login = {"name": "https://registry.test:5000/v2/", "username": "u", "password": "p"}
        id = (await cloud.ok("POST", "/repository/auth/save", login))["id"]
        assert (await cloud.ok("POST", "/repository/auth/save", {**login, "username": "v"}))["id"] == id
        [shown] = (await cloud.ok("GET", "/repository/auths"))["data"]
        assert shown == {"id": id, "name": "registry.test:5000", "username": "v", "password": "********"}
        made = await cloud.make(image={"image": "registry.test:5000/a", "authId": id})
        assert (await cloud.get(made))["image"]["authId"] == id
        told(await cloud.call("POST", "/repository/auth/delete", {"id": id}), 400, "IMAGE_AUTH_IN_USE")
        shown = await cloud.update(made, image={"image": "registry.test:5000/a", "authId": ""})
        assert shown["image"]["authId"] == ""
        assert await cloud.ok("POST", "/repository/auth/delete", {"id": id}) == {}
        told(await cloud.call("POST", "/repository/auth/delete", {"id": id}), 400, "RESOURCE_NOT_FOUND")
        for wrong, word in (({"name": "no host!"}, "name"), ({"username": ""}, "username"), ({"password": ""}, "pass")):
            told(await cloud.call("POST", "/repository/auth/save", {**login, **wrong}), 400, "VALIDATOR_PARAM", word)

    play(body)


def test_storages_are_volumes_and_are_found_at_both_addresses(tmp_path: Path) -> None:
    async def body(cloud: Cloud) -> None:
        storage = {"clusterId": "local", "storageName": "data", "storageSize": "10"}
        made = await cloud.ok("POST", "/networkstorage/create", storage)
        id = made["id"]
        assert made == {"id": id, "storageId": id}
        for path in ("/networkstorages", "/networkstorages/list", f"/networkstorages?storageId={id}&storageName=DAT"):
            found = await cloud.ok("GET", path)
            assert (found["total"], found["data"][0]["storageName"], found["data"][0]["storageSize"]) == (1, "data", 10)
        assert (await cloud.ok("GET", "/networkstorages?storageName=other"))["total"] == 0
        assert (await cloud.ok("GET", "/networkstorages/list?pageNo=2&pageSize=1"))["data"] == []
        change = {"storageId": id, "storageSize": 20}
        assert await cloud.ok("POST", "/networkstorage/update", change) == {}
        assert (await cloud.ok("GET", "/networkstorages"))["data"][0]["storageSize"] == 20
        renamed = await cloud.call("POST", "/networkstorage/update", {**change, "storageName": "other"})
        told(renamed, 400, "VALIDATOR_PARAM", "storageName")
        for wrong, word in (({"clusterId": "mars"}, "clusterId"), ({"storageName": "No!"}, "storageName")):
            told(await cloud.call("POST", "/networkstorage/create", {**storage, **wrong}), 400, "VALIDATOR_PARAM", word)
        told(await cloud.call("POST", "/networkstorage/create", storage), 400, "CONFLICT", "data")
        assert await cloud.ok("POST", "/networkstorage/delete", {"storageId": id}) == {}
        told(await cloud.call("POST", "/networkstorage/delete", {"id": id}), 400, "NETWORK_STORAGE_NOT_FOUND")

    play(body, tmp_path)


def test_a_mounted_storage_needs_its_own_cluster(tmp_path: Path) -> None:
    async def body(cloud: Cloud) -> None:
        storage = {"clusterId": "local", "storageName": "data", "storageSize": 10}
        id = (await cloud.ok("POST", "/networkstorage/create", storage))["id"]
        mounts = [{"type": "network", "id": id, "mountPath": "/data"}]
        for cluster in ({}, {"clusterID": "mars"}, {"clusterID": ""}):
            answer = await cloud.call("POST", "/endpoint/create", {"endpoint": asked(volumeMounts=mounts, **cluster)})
            told(answer, 400, "VALIDATOR_PARAM", "clusterID")

    play(body, tmp_path)


def test_callers_are_known_before_anything_is_looked_at() -> None:
    async def body(cloud: Cloud) -> None:
        for key in ("", "none at all"):
            told(await cloud.call("GET", "/endpoints", key=key), 401, "UNAUTHORIZED")
            told(await cloud.call("POST", "/v1/any/run", {"input": 1}, key=key), 401, "UNAUTHORIZED")
        reader = await cloud.api.key(Scope.READ)
        assert (await cloud.call("GET", "/endpoints", key=reader)).status == 200
        told(await cloud.call("POST", "/endpoint/create", {"endpoint": asked()}, key=reader), 403, "FORBIDDEN")

    play(body)


def test_bodies_are_json_whatever_they_say_that_they_are() -> None:
    async def body(cloud: Cloud) -> None:
        headers = {"authorization": f"Bearer {cloud.api.secret}", "content-type": "text/plain", "host": "127.0.0.1"}

        async def post(content: bytes) -> tuple[int, str]:
            answer = await Exchange(cloud.api.app, "POST", f"{ROOT}/endpoint/create", headers, content).answer()
            return answer.status, answer.json.get("reason", "")

        assert await post(json.dumps({"endpoint": asked()}).encode()) == (200, "")
        assert await post(b"{") == (400, "REQUEST")
        assert await post(b'{"endpoint": "\\ud800"}') == (400, "REQUEST")
        assert await post(b" " * (4 * 1024 * 1024 + 1)) == (400, "REQUEST")
        told(await cloud.call("GET", "/endpoint/none"), 404, "RESOURCE_NOT_FOUND")
        told(await cloud.call("DELETE", "/endpoints"), 404, "RESOURCE_NOT_FOUND")

    play(body)


def test_the_clouds_own_hosts_have_it_at_the_root() -> None:
    async def body(cloud: Cloud) -> None:
        for host, path in (
            ("api.novita.ai", "/gpu-instance/openapi/v1/endpoints"),
            ("async-public.serverless.novita.ai", "/v1/none/health"),
        ):
            headers = {"host": host, "authorization": f"Bearer {cloud.api.secret}"}
            answer = await Exchange(cloud.api.app, "GET", path, headers, b"").answer()
            assert "endpoints" in answer.json or answer.json["reason"] == "RESOURCE_NOT_FOUND", answer.body

    play(body)


def test_hardware_that_no_product_is_listed_for_has_a_name_by_rule() -> None:
    assert product_of((), HardwareRequest(gpu_family="b200", gpu_count=2, vram_gib_min=180)) == "b200-180gb"
    assert product_of((), HardwareRequest()) == "cpu"

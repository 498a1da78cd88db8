"""Endpoints of Novita's API: what is asked for becomes an endpoint here, and what is shown can be sent back."""

from __future__ import annotations

import asyncio
from typing import Any

from dialects.novita.client import CARD, Cloud, asked, config, play, told
from stoker.domain.access import Scope
from stoker.domain.endpoint import Access, EndpointId, EndpointSpec
from stoker.domain.queueing import Mode
from stoker.domain.scaling import QueueDelay, QueueLength


def spec_of(cloud: Cloud, id: str) -> EndpointSpec:
    found = cloud.api.world.stoker.fleet.endpoint(EndpointId(id))
    assert found is not None
    return found.spec


def test_what_is_asked_for_is_an_endpoint_here() -> None:
    async def body(cloud: Cloud) -> None:
        id = await cloud.make(
            name="demo",
            appName="app",
            workerConfig=config(minNum="1", maxConcurrent="4", freeTimeout="60", requestTimeout=30, cudaVersion="12"),
            image={"image": "img:1", "command": "serve --port '80 80'"},
            envs=[{"key": "A", "value": "b"}],
            healthy={"path": "/live"},
            clusterID="local",
        )
        spec = spec_of(cloud, id)
        assert (spec.name, spec.slots, spec.launch.port, spec.launch.image) == ("demo", 4, 8080, "img:1")
        assert spec.launch.command == ("serve", "--port", "80 80")
        assert spec.launch.env == {"A": "b"}
        [pool] = spec.pools
        assert (pool.bounds.min, pool.bounds.max) == (1, 2)
        assert (pool.hardware.gpu_family, pool.hardware.gpu_count, pool.hardware.region) == ("h100", 1, "local")
        assert spec.scaling.triggers == (QueueDelay(threshold_s=1.0),)
        assert (spec.scaling.idle_timeout_s, spec.scaling.scale_down_delay_s) == (60, 60)
        assert (spec.timeouts.total_s, spec.timeouts.first_byte_s) == (30, None)
        assert spec.probes.liveness is not None
        assert (spec.probes.liveness.path, spec.probes.liveness.failures_max) == ("/live", 3)
        assert spec.access is Access.OPEN, "Stoker's own address is a loopback one"
        shown = await cloud.get(id)
        assert shown["url"] == f"http://127.0.0.1:7878/novita/{id}-app"
        assert shown["workerConfig"] == {
            "minNum": 1, "maxNum": 2, "freeTimeout": "60", "maxConcurrent": "4", "gpuNum": 1, "requestTimeout": 30,
            "cudaVersion": "12",
        }  # fmt: skip
        assert (shown["image"]["command"], shown["products"]) == ("serve --port '80 80'", [{"id": CARD}])

    play(body)


def test_jobs_are_for_workers_that_ask_for_them() -> None:
    async def body(cloud: Cloud) -> None:
        id = await cloud.make(type="async", workerConfig=config(requestTimeout=20))
        spec = spec_of(cloud, id)
        assert (spec.mode, spec.queue.pull, spec.access) == (Mode.QUEUE, True, Access.PROJECT)
        assert (spec.queue.execution_timeout_s, spec.queue.retries.attempts_max) == (20, 2)
        shown = await cloud.get(id)
        assert (shown["type"], shown["url"]) == ("async", f"http://127.0.0.1:7878/novita/v1/{id}-{id}")
        assert (await cloud.update(id, workerConfig=config(requestTimeout=40)))["workerConfig"]["requestTimeout"] == 40
        assert spec_of(cloud, id).queue.execution_timeout_s == 40

    play(body)


def test_what_was_shown_and_comes_back_changes_nothing_whoever_made_the_endpoint() -> None:
    async def body(cloud: Cloud) -> None:
        id = await cloud.make(envs=[{"key": "A", "value": "b"}], appName="app")
        native = (await cloud.api.create("native", slots=2000, scaling={"idle_timeout_s": 604_800}))["id"]
        pools = [{"name": name, "provider": "fake", "bounds": {"min": 0, "max": 200}} for name in ("a", "b")]
        wide = (await cloud.api.create("wide", pools=pools))["id"]
        for each in (id, native, wide):
            before = spec_of(cloud, each)
            shown = await cloud.get(each)
            await cloud.update(each)
            assert spec_of(cloud, each) == before
            again = {name: shown[name] for name in ("name", "appName", "envs", "volumeMounts", "healthy", "products")}
            if shown["clusterID"]:
                again["clusterID"] = shown["clusterID"]
            await cloud.update(each, **again, workers=None)
            assert spec_of(cloud, each).launch == before.launch
            assert spec_of(cloud, each).pools == before.pools
        told(await _updated(cloud, wide, workerConfig=config(maxNum=3)), 400, "VALIDATOR_PARAM", "several pools")

    play(body)


async def _updated(cloud: Cloud, id: str, **more: Any) -> Any:
    found = await cloud.get(id)
    body = {"id": id, **{name: found[name] for name in ("workerConfig", "ports", "policy", "image")}, **more}
    return await cloud.call("POST", "/endpoint/update", body)


def test_an_update_replaces_what_it_says_and_keeps_the_rest() -> None:
    async def body(cloud: Cloud) -> None:
        id = await cloud.make(name="a", envs=[{"key": "A", "value": "b"}], healthy={"path": "/live"})
        shown = await cloud.update(
            id,
            name="b",
            ports={"port": 9090},
            policy=[{"type": "concurrency", "value": "7"}],
            workerConfig=[config(maxNum=5, gpuNum=0, maxConcurrent=3)],
            image=[{"image": "img:2", "command": "run"}],
            products=[{"id": "cpu"}],
            rootfsSize=50,
        )
        assert (shown["name"], shown["ports"], shown["rootfsSize"]) == ("b", [{"port": 9090}], 50)
        assert (shown["policy"], shown["workerConfig"]["maxNum"]) == ({"type": "concurrency", "value": "7"}, 5)
        assert (shown["image"]["image"], shown["image"]["command"]) == ("img:2", "run")
        assert (shown["products"], shown["workerConfig"]["gpuNum"]) == ([{"id": "cpu"}], 0)
        assert (shown["envs"], shown["healthy"]["path"]) == ([{"key": "A", "value": "b"}], "/live")
        assert spec_of(cloud, id).scaling.triggers == (QueueLength(target=3.0, tolerated=7),)
        shown = await cloud.update(id, envs=[], image={"image": "img:2", "command": ""}, volumeMounts=[])
        assert (shown["envs"], shown["image"]["command"], shown["volumeMounts"]) == ([], "", [])
        shown = await cloud.update(id, healthy={"path": "/x"}, envs=[{"key": "B", "value": "c"}])
        assert (shown["healthy"]["path"], shown["envs"]) == ("/x", [{"key": "B", "value": "c"}])

    play(body)


# With the word that the message must have.
WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"ports": [{"port": "2223"}]}, "ports"),
    ({"ports": [{"port": 0}]}, "ports"),
    ({"ports": [{"port": "65536"}]}, "ports"),
    ({"ports": [{"port": "80"}, {"port": "81"}]}, "ports"),
    ({"ports": []}, "ports"),
    ({"workerConfig": config(minNum=-1)}, "minNum"),
    ({"workerConfig": config(minNum=3)}, "minNum"),
    ({"workerConfig": config(maxNum=101)}, "maxNum"),
    ({"workerConfig": config(freeTimeout=86_401)}, "freeTimeout"),
    ({"workerConfig": config(maxConcurrent=0)}, "maxConcurrent"),
    ({"workerConfig": config(maxConcurrent="many")}, "maxConcurrent"),
    ({"workerConfig": config(gpuNum=9)}, "gpuNum"),
    ({"workerConfig": config(gpuNum=True)}, "gpuNum"),
    ({"workerConfig": None}, "workerConfig"),
    ({"policy": {"type": "queue", "value": 0}}, "policy.value"),
    ({"policy": {"type": "concurrency", "value": 10_001}}, "policy.value"),
    ({"policy": {"type": "speed", "value": 1}}, "policy.type"),
    ({"image": {"image": ""}}, "image.image"),
    ({"image": {"image": "x" * 512}}, "image.image"),
    ({"image": {"image": "i", "command": "x" * 2_048}}, "image.command"),
    ({"healthy": {"path": "live"}}, "healthy.path"),
    ({"clusterID": "x" * 256}, "clusterID"),
    ({"clusterID": "mars"}, "clusterID"),
    ({"name": "x" * 221}, "name"),
    ({"envs": [{"key": "1A", "value": ""}]}, "envs"),
    ({"volumeMounts": [{"type": "network", "mountPath": "/d"}]}, "volumeMounts"),
    ({"volumeMounts": [{"type": "local", "size": 201, "mountPath": "/d"}]}, "volumeMounts"),
    ({"rootfsSize": 131}, "rootfsSize"),
    ({"appName": "No"}, "appName"),
)


def test_what_does_not_fit_is_refused_with_its_place_when_it_is_made_and_when_it_is_changed() -> None:
    async def body(cloud: Cloud) -> None:
        id = await cloud.make()
        before = spec_of(cloud, id)
        for wrong, word in WRONG:
            answer = await cloud.call("POST", "/endpoint/create", {"endpoint": asked(**wrong)})
            told(answer, 400, "VALIDATOR_PARAM", word)
            told(await _updated(cloud, id, **wrong), 400, "VALIDATOR_PARAM", word)
        assert (await cloud.ok("GET", "/endpoints"))["total"] == 1
        assert spec_of(cloud, id) == before

    play(body)


def test_what_is_not_there_has_its_own_word() -> None:
    async def body(cloud: Cloud) -> None:
        for wrong, reason in (
            ({"products": [{"id": "none"}]}, "SERVERLESS_PRODUCT_NOT_FOUND"),
            ({"products": [{"id": "3"}]}, "SERVERLESS_PRODUCT_NOT_FOUND"),
            ({"workerConfig": config(gpuNum=2)}, "INSUFFICIENT_RESOURCE"),
            ({"products": [{"id": "cpu"}]}, "VALIDATOR_PARAM"),
            ({"image": {"image": "i", "authId": "none"}}, "IMAGE_NOT_FOUND"),
            ({"image": {"image": "i", "command": "'"}}, "INVALID_COMMAND_PARAM"),
            ({"volumeMounts": [{"type": "network", "id": "none", "mountPath": "/d"}]}, "NETWORK_STORAGE_NOT_FOUND"),
        ):
            told(await cloud.call("POST", "/endpoint/create", {"endpoint": asked(**wrong)}), 400, reason)
        await cloud.make(name="one", appName="app")
        answer = await cloud.call("POST", "/endpoint/create", {"endpoint": asked(name="two", appName="app")})
        told(answer, 400, "SERVERLESS_APP_NAME_IS_EXIST")
        told(await cloud.call("POST", "/endpoint/create", {"endpoint": asked(name="one")}), 400, "CONFLICT")
        for method, path, value in (
            ("GET", "/endpoint?id=none", None),
            ("POST", "/endpoint/delete", {"id": "none"}),
            ("POST", "/endpoint/update", {"id": "none", **asked()}),
        ):
            told(await cloud.call(method, path, value), 400, "SERVERLESS_ENDPOINT_NOT_FOUND", "none")
        told(await cloud.call("GET", "/endpoint"), 400, "VALIDATOR_PARAM", "id")
        told(await cloud.call("POST", "/endpoint/delete", {}), 400, "VALIDATOR_PARAM", "id")

    play(body)


def test_who_may_not_see_log_ins_changes_endpoints_all_the_same_and_takes_none_away() -> None:
    async def body(cloud: Cloud) -> None:
        login = {"name": "registry.test", "username": "u", "password": "p"}
        auth = (await cloud.ok("POST", "/repository/auth/save", login))["id"]
        id = await cloud.make(image={"image": "registry.test/a", "authId": auth})
        key = await cloud.api.key(Scope.READ, Scope.DEPLOY, endpoints=[id])
        shown = (await cloud.call("GET", f"/endpoint?id={id}", key=key)).json["endpoint"]
        assert shown["image"]["authId"] == ""
        echo = {name: shown[name] for name in ("id", "ports", "policy", "image")}
        answer = await cloud.call("POST", "/endpoint/update", {**echo, "workerConfig": config(maxNum=9)}, key=key)
        assert answer.status == 200, answer.body
        shown = await cloud.get(id)
        assert (shown["workerConfig"]["maxNum"], shown["image"]["authId"]) == (9, auth)

    play(body)


def test_the_name_of_an_application_is_for_good() -> None:
    async def body(cloud: Cloud) -> None:
        id = await cloud.make(appName="app")
        told(await _updated(cloud, id, appName="other"), 400, "VALIDATOR_PARAM", "appName")
        assert (await _updated(cloud, id, appName="app")).status == 200

    play(body)


def test_lists_come_in_pages_that_count_from_zero_and_have_ports_as_texts() -> None:
    async def body(cloud: Cloud) -> None:
        made = [await cloud.make(name=f"e{n}") for n in range(12)]
        first, second = await cloud.ok("GET", "/endpoints"), await cloud.ok("GET", "/endpoints?pageNum=1")
        assert [each["id"] for each in first["endpoints"] + second["endpoints"]] == made
        assert (len(first["endpoints"]), first["total"]) == (10, 12)
        assert first["endpoints"][0]["ports"] == [{"port": "8080"}]
        assert (await cloud.ok("GET", "/endpoints?pageSize=100&pageNum=1"))["endpoints"] == []
        told(await cloud.call("GET", "/endpoints?pageSize=101"), 400, "VALIDATOR_PARAM", "pageSize")

    play(body)


def test_an_endpoint_goes_by_its_id_whatever_the_client_calls_that_or_by_its_name() -> None:
    async def body(cloud: Cloud) -> None:
        for called in ("id", "name", "endpoint_id"):
            assert await cloud.ok("POST", "/endpoint/delete", {called: await cloud.make(name=called)}) == {}
        last = await cloud.make(name="by-name")
        assert await cloud.ok("POST", "/endpoint/delete", {"name": "by-name"}) == {}
        for _ in range(50):
            if not (await cloud.ok("GET", "/endpoints"))["total"]:
                break
            await asyncio.sleep(0.5)
        told(await cloud.call("GET", f"/endpoint?id={last}"), 400, "SERVERLESS_ENDPOINT_NOT_FOUND")

    play(body)


def test_states_of_endpoints_and_workers_follow_what_becomes_of_them() -> None:
    async def body(cloud: Cloud) -> None:
        id = await cloud.make(workerConfig=config(minNum=1))
        shown = await cloud.get(id)
        assert shown["state"]["state"] == "creating"
        for _ in range(100):
            shown = await cloud.get(id)
            if shown["state"]["state"] == "serving":
                break
            await asyncio.sleep(0.5)
        [worker] = shown["workers"]
        assert (worker["state"]["state"], worker["healthy"]) == ("running", True)
        await cloud.api.call("POST", f"/endpoints/{id}:stop")
        assert (await cloud.get(id))["state"]["state"] == "stopped"

    play(body)

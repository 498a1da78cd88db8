"""Endpoints through Yotta's API: real control, simulated machines, virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

from dialects.yotta.client import CARD, ENDPOINTS, NO_CARD, Cloud, endpoint, invalid, play, told

NO_ENDPOINT = (404, 14000, "Endpoint not found")
NOT_ALLOWED = (409, 24002, "Elastic action not allowed")


def test_an_endpoint_from_create_to_gone() -> None:
    async def main(cloud: Cloud) -> None:
        made = await cloud.call("POST", ENDPOINTS, endpoint())
        assert made.json["message"] == "Endpoint created successfully"
        one = f"{ENDPOINTS}/{made.json['data']['id']}"
        assert made.json["data"]["status"] == "INITIALIZING"
        got = await cloud.reaches(made.json["data"]["id"], "RUNNING")
        assert (got["totalWorkers"], got["runningWorkers"], got["cost"], got["creator"]) == (1, 1, 0, None)
        assert await cloud.ok("GET", ENDPOINTS) == [got]
        assert await cloud.ok("GET", f"{ENDPOINTS}?statusList=stopped%2CRUNNING") == [got]
        assert await cloud.ok("GET", f"{ENDPOINTS}?statusList=STOPPED&statusList=FAILED") == []
        for verb, message in (
            ("start", "Endpoint started"),
            ("stop", "Endpoint stopped"),
            ("stop", "Endpoint stopped"),
        ):
            answer = await cloud.call("POST", f"{one}/{verb}", {})
            assert answer.json == {"message": message, "code": 10000, "data": True}
        assert (await cloud.reaches(got["id"], "STOPPED"))["runningWorkers"] == 0
        await cloud.ok("POST", f"{one}/start")
        await cloud.reaches(got["id"], "RUNNING")
        assert (await cloud.call("DELETE", one)).json["message"] == "Endpoint deleted"
        assert (await cloud.ok("GET", one))["status"] == "TERMINATED"
        for method, path in (("DELETE", one), ("POST", f"{one}/stop"), ("PATCH", one), ("PUT", f"{one}/workers/2")):
            told(await cloud.call(method, path, {}), *NO_ENDPOINT)

    play(main)


def test_what_is_left_out_is_the_default_and_everything_said_comes_back() -> None:
    async def main(cloud: Cloud) -> None:
        plain = endpoint("plain", serviceMode="ALB")
        del plain["image"]
        made = await cloud.ok("POST", ENDPOINTS, plain)
        assert (made["image"], made["imageRegistry"], made["initializationCommand"]) == (
            *("vllm/vllm-openai:latest", None, None),
        )
        assert (made["webhook"], made["environmentVars"]) == (None, [])
        assert made["expose"] == {"port": 8000, "protocol": "http"}
        assert made["domain"] == "http://127.0.0.1:7878/e/plain"
        login = {"name": "hub", "type": "PRIVATE", "username": "u", "password": "p"}
        credential = (await cloud.ok("POST", "/v2/container-registry-auths", login))["id"]
        said = {
            "image": "org/app:1",
            "imageRegistry": "https://ghcr.io",
            "resources": [CARD, {**CARD, "gpuType": "NVIDIA_H200_141G"}],
            "minSingleCardVramInGb": 40,
            "minSingleCardVcpu": 4,
            "minSingleCardRamInGb": 16,
            "workers": 3,
            "containerVolumeInGb": 50,
            "initializationCommand": "serve --fast && sleep 1",
            "environmentVars": [{"key": "A", "value": "b"}],
            "expose": {"port": 9000, "protocol": "tcp"},
            "webhook": "https://example.com/told",
            "serviceMode": "CUSTOM",
        }
        got = await cloud.make("said", **said, containerRegistryAuthId=credential, unknown="is ignored")
        assert {name: got[name] for name in said if name != "workers"} == {
            k: v for k, v in said.items() if k != "workers"
        }
        assert got["domain"] is None
        spec = cloud.api.world.stoker.fleet.endpoints()[-1].spec
        assert (spec.launch.image, spec.launch.credential) == ("ghcr.io/org/app:1", "hub")
        assert spec.launch.command == ("sh", "-c", "serve --fast && sleep 1")
        [pool] = spec.pools
        hardware = pool.hardware
        assert (hardware.families, hardware.vram_gib_min, hardware.disk_gib) == (("h100", "h200"), 80, 50)
        assert (hardware.vcpu_per_gpu, hardware.ram_gib_per_gpu, pool.bounds.min) == (4, 16, 3)

    play(main)


MISTAKES: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({"name": "1a"}, ["/name"]),
    ({"name": "a" * 21}, ["/name"]),
    ({"name": "a b"}, ["/name"]),
    ({"name": "a\n"}, ["/name"]),
    ({"image": ""}, ["/image"]),
    ({"imageRegistry": "https://"}, ["/imageRegistry"]),
    ({"resources": []}, ["/resources"]),
    ({"resources": [{**CARD, "gpuCount": 0}]}, ["/resources/0"]),
    ({"resources": [{"region": "local"}]}, ["/resources/0/gpuType", "/resources/0/gpuCount"]),
    ({"resources": [CARD, {**CARD, "gpuCount": 2}]}, ["/resources"]),
    ({"resources": [{**CARD, "gpuCount": 2}]}, ["/resources"]),
    ({"resources": [{**CARD, "region": "moon"}]}, ["/resources"]),
    ({"resources": [CARD], "minSingleCardVramInGb": 96}, ["/resources"]),
    ({"workers": 0}, ["/workers"]),
    ({"workers": "1"}, ["/workers"]),
    ({"containerVolumeInGb": 19}, ["/containerVolumeInGb"]),
    ({"serviceMode": None}, ["/serviceMode"]),
    ({"environmentVars": [{"key": "a b", "value": ""}]}, ["/environmentVars/0/key"]),
    ({"environmentVars": [{"key": "A"}, {"name": "A"}]}, ["/environmentVars"]),
    ({"expose": {"port": 65_536}}, ["/expose/port"]),
    ({"serviceMode": "ALB", "expose": {"port": 1, "protocol": "ssh"}}, ["/expose/protocol"]),
    ({"webhook": "file:///etc"}, ["/webhook"]),
    ({"webhook": "http://" + "a" * 512}, ["/webhook"]),
    ({"containerRegistryAuthId": 7}, ["/containerRegistryAuthId"]),
)


def test_what_does_not_fit_is_refused_at_its_place() -> None:
    async def main(cloud: Cloud) -> None:
        for wrong, places in MISTAKES:
            answer = await cloud.call("POST", ENDPOINTS, endpoint(**{"name": "demo", **wrong}))
            assert invalid(answer) == places, wrong
        assert await cloud.ok("GET", ENDPOINTS) == []

    play(main)


def test_clients_spell_some_things_otherwise() -> None:
    async def main(cloud: Cloud) -> None:
        login = {"name": "hub", "type": "PRIVATE", "username": "u", "password": "p"}
        credential = (await cloud.ok("POST", "/v2/container-registry-auths", login))["id"]
        more: dict[str, Any] = {"envVars": [{"name": "A", "value": "b"}], "expose": {"port": 80}, "webhook": ""}
        made = await cloud.make(**more, credentialId=str(credential), imageRegistry="https://index.docker.io/v1")
        assert made["envVars"] == made["environmentVars"] == [{"key": "A", "value": "b"}]
        assert (made["expose"], made["webhook"]) == ({"port": 80, "protocol": "http"}, None)
        spec = cloud.api.world.stoker.fleet.endpoints()[0].spec
        assert (spec.launch.image, spec.launch.credential, spec.launch.ports) == ("nginx:latest", "hub", (8000,))
        one = f"{ENDPOINTS}/{made['id']}"
        assert await cloud.ok("PUT", f"{one}/workers", {"count": 2}) is True
        assert (await cloud.ok("GET", f"/{one}"))["totalWorkers"] == 2, "with a slash too many"

    play(main)


def test_while_it_runs_only_name_number_and_webhook_change_and_null_clears() -> None:
    async def main(cloud: Cloud) -> None:
        made = await cloud.make(
            resources=[CARD], minSingleCardVcpu=2, initializationCommand="x", webhook="http://a.b/c"
        )
        one = f"{ENDPOINTS}/{made['id']}"
        needed = {"resources": [CARD], "containerVolumeInGb": 20}
        got = await cloud.ok("PATCH", one, {**needed, "name": "other", "workers": 2, "webhook": None})
        assert (got["name"], got["totalWorkers"], got["webhook"]) == ("other", 2, None)
        assert got["minSingleCardVcpu"] == 2, "what is not said stays"
        for field, value in (("minSingleCardVcpu", None), ("initializationCommand", None), ("containerVolumeInGb", 30)):
            told(await cloud.call("PATCH", one, {field: value}), *NOT_ALLOWED)
        await cloud.ok("POST", f"{one}/stop")
        change = {
            "minSingleCardVcpu": None,
            "initializationCommand": None,
            "containerVolumeInGb": 30,
            "expose": {"port": 81, "protocol": "HTTP"},
            "resources": [NO_CARD],
            "environmentVars": [{"key": "A", "value": "b"}],
        }
        got = await cloud.ok("PATCH", one, change)
        assert {name: got[name] for name in change} == {**change, "expose": {"port": 81, "protocol": "http"}}
        assert (got["status"], got["name"], got["totalWorkers"]) in (
            ("STOPPING", "other", 2),
            ("STOPPED", "other", 2),
        )
        assert invalid(await cloud.call("PATCH", one, {"workers": 0})) == ["/workers"]
        await cloud.make("taken")
        invalid(await cloud.call("PATCH", one, {"name": "taken"}))
        invalid(await cloud.call("POST", ENDPOINTS, endpoint("taken")))

    play(main)


def test_a_number_of_workers_holds_whatever_there_is_to_do() -> None:
    async def main(cloud: Cloud) -> None:
        made = await cloud.make()
        one = f"{ENDPOINTS}/{made['id']}"
        await cloud.reaches(made["id"], "RUNNING")
        assert (await cloud.call("PUT", f"{one}/workers?count=0")).json["message"] == "Workers scaled"
        for _ in range(2):
            got = await cloud.reaches(made["id"], "RUNNING")
            assert got["totalWorkers"] == 0
            await cloud.ok("POST", f"{one}/tasks", {"input": 1})
        await cloud.ok("POST", f"{one}/stop")
        await cloud.ok("PUT", f"{one}/workers?count=3")
        got = await cloud.reaches(made["id"], "STOPPED")
        assert got["totalWorkers"] == 3, "for when it starts"
        await cloud.ok("POST", f"{one}/start")
        await cloud.reaches(made["id"], "RUNNING")
        for wrong in ("workers", "workers?count=-1", "workers?count=x", "workers/1001"):
            invalid(await cloud.call("PUT", f"{one}/{wrong}"))
        for id in ("0", "01x", "9" * 19, "-1", "demo"):
            told(await cloud.call("PUT", f"{ENDPOINTS}/{id}/workers?count=1"), *NO_ENDPOINT)

    play(main)


def test_endpoints_that_were_made_elsewhere_are_shown_with_what_they_lack_and_change_no_further() -> None:
    async def main(cloud: Cloud) -> None:
        secret = {"name": "token", "value": "v"}
        assert (await cloud.api.call("POST", "/secrets", secret)).status == 201
        env = {"TOKEN": {"secret": "token"}, "A": "b"}
        native = await cloud.api.create(
            "Native endpoint, no name for Yotta",
            max=4,
            mode="mixed",
            launch={"command": ["serve", "a b"], "env": env},
        )
        [shown] = await cloud.ok("GET", ENDPOINTS)
        assert shown["id"] == str(native["number"])
        assert (shown["serviceMode"], shown["image"], shown["status"]) == ("QUEUE", "stoker/command", "RUNNING")
        assert (shown["totalWorkers"], shown["initializationCommand"], shown["expose"]) == (4, "serve 'a b'", None)
        assert (shown["resources"], shown["containerVolumeInGb"]) == ([NO_CARD], 20)
        assert {"key": "TOKEN", "value": "secret:token"} in shown["environmentVars"]
        assert shown["domain"].endswith(f"/e/{native['slug']}")
        one = f"{ENDPOINTS}/{shown['id']}"
        echo = {name: shown[name] for name in ("resources", "containerVolumeInGb", "environmentVars")}
        got = await cloud.ok("PATCH", one, {**echo, "name": "named", "workers": 3})
        assert (got["name"], got["totalWorkers"]) == ("named", 3)
        endpoint = cloud.api.world.stoker.fleet.endpoints()[0]
        bounds = endpoint.spec.pools[0].bounds
        assert (bounds.min, bounds.max) == (0, 3), "it scales as before"
        assert endpoint.spec.launch.secrets == {"token"}
        assert (await cloud.api.call("POST", f"/endpoints/{native['id']}:scale", {"workers": 2})).status == 202
        assert (await cloud.ok("GET", one))["totalWorkers"] == 2
        await cloud.ok("PUT", f"{one}/workers?count=1")
        assert (await cloud.ok("GET", one))["totalWorkers"] == 1, "what was set by hand does not stand in the way"
        invalid(await cloud.call("PATCH", one, {"initializationCommand": "x"}))

    play(main)


def test_several_pools_that_were_made_elsewhere_are_scaled_by_hand() -> None:
    async def main(cloud: Cloud) -> None:
        pools = [{"name": name, "provider": "fake", "bounds": {"min": 0, "max": 2}} for name in ("a", "b")]
        native = await cloud.api.create("two", pools=pools)
        one = f"{ENDPOINTS}/{native['number']}"
        assert (await cloud.ok("GET", one))["totalWorkers"] == 4
        await cloud.ok("PUT", f"{one}/workers?count=3")
        assert (await cloud.ok("GET", one))["totalWorkers"] == 3
        assert len((await cloud.ok("GET", one))["resources"]) == 2

    play(main)


def test_an_endpoint_whose_workers_do_not_start_is_failed() -> None:
    async def main(cloud: Cloud) -> None:
        world = cloud.api.world
        world.load_s = 10_000
        made = await cloud.make()
        for _ in range(60):
            await asyncio.sleep(20)
            for worker in world.provider.workers:
                world.provider.crash(worker)
            if (await cloud.ok("GET", f"{ENDPOINTS}/{made['id']}"))["status"] == "FAILED":
                break
        assert "failed starts" in (await cloud.ok("GET", f"{ENDPOINTS}/{made['id']}"))["statusReason"]
        task = await cloud.call("POST", f"{ENDPOINTS}/{made['id']}/tasks", {"input": 1})
        told(task, 409, 24000, "Serverless unavailable")

    play(main)

"""Deployments through Exoscale's API: real control, simulated machines, virtual time."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from api.client import spec
from dialects.exoscale.client import ROOT, SMOL, Cloud, authorization, deployment, play, told


def test_a_deployment_from_create_to_gone() -> None:
    async def main(cloud: Cloud) -> None:
        operation = await cloud.ok("POST", "/ai/deployment", deployment("chat", replicas=2, product_name="team-a"))
        id = operation["reference"]["id"]
        assert operation["state"] == "pending"
        assert operation["reference"] == {"id": id, "link": f"/v2/ai/deployment/{id}", "command": "get-deployment"}
        assert (await cloud.ok("GET", f"/ai/deployment/{id}"))["state"] in ("creating", "deploying")
        ended = await cloud.wait(operation)
        assert (ended["state"], ended.get("reason"), ended["message"]) == ("success", None, "2 workers are ready")
        got = await cloud.ok("GET", f"/ai/deployment/{id}")
        assert (got["state"], got["replicas"], got["model"]["name"]) == ("ready", 2, SMOL)
        assert (got["gpu-type"], got["gpu-count"], got["service-level"]) == ("cpu", 1, "self-hosted")
        assert got["deployment-url"] == f"http://127.0.0.1:7878/exoscale/deployment/{id}"
        assert got["created-at"].endswith("Z")
        [listed] = (await cloud.ok("GET", "/ai/deployment?visibility=private"))["deployments"]
        assert listed == {
            name: value
            for name, value in got.items()
            if name not in ("state-details", "inference-engine-parameters", "inference-engine-version")
        }
        assert (await cloud.ok("GET", "/ai/deployment?visibility=public"))["deployments"] == []
        gone = await cloud.wait(await cloud.ok("DELETE", f"/ai/deployment/{id}"))
        assert (gone["state"], gone["reference"]["id"]) == ("success", id)
        told(await cloud.call("GET", f"/ai/deployment/{id}"), 404)
        assert (await cloud.ok("GET", f"/operation/{operation['id']}"))["state"] == "success", "still known"

    play(main)


def test_scaling_sets_the_number_whatever_requests_there_are_to_none_and_back() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.deploy()
        path = f"/ai/deployment/{id}"
        for replicas in (3, 0, 0, 1):
            ended = await cloud.wait(await cloud.ok("POST", f"{path}/scale", {"replicas": replicas}))
            assert ended["state"] == "success"
            got = await cloud.ok("GET", path)
            assert (got["replicas"], got["state"]) == (replicas, "ready")
        stopped = await cloud.api.call("POST", f"/endpoints/{id}:stop")
        assert stopped.status == 202
        assert (await cloud.ok("GET", path))["replicas"] == 0
        again = await cloud.wait(await cloud.ok("POST", f"{path}/scale", {"replicas": 2}))
        assert again["state"] == "success"
        assert (await cloud.ok("GET", path))["replicas"] == 2

    play(main)


def test_what_was_made_elsewhere_is_listed_and_keeps_its_bounds_when_it_is_scaled() -> None:
    async def main(cloud: Cloud) -> None:
        made = await cloud.api.create("native", max=4)
        path = f"/ai/deployment/{made['id']}"
        got = await cloud.ok("GET", path)
        assert (got["replicas"], got["state"], got["gpu-type"], got.get("model")) == (0, "ready", "cpu", None)
        assert (await cloud.wait(await cloud.ok("POST", f"{path}/scale", {"replicas": 2})))["state"] == "success"
        assert (await cloud.ok("GET", path))["replicas"] == 2
        kept = (await cloud.api.call("GET", "/endpoints/native")).json["spec"]["pools"][0]["bounds"]
        assert (kept["min"], kept["max"]) == (0, 4)
        text = told(await cloud.call("PATCH", path, {"inference-engine-parameters": ["--x"]}), 400)
        assert "no engine" in text

    play(main)


def test_an_update_changes_what_it_names_and_an_empty_one_nothing() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.deploy("old", inference_engine_parameters=["--max-model-len", "512"])
        path = f"/ai/deployment/{id}"
        values = {
            "name": "new",
            "inference-engine-parameters": ["--max-num-seqs=2"],
            "inference-engine-version": "0.15.1",
        }
        assert (await cloud.wait(await cloud.ok("PATCH", path, values)))["state"] == "success"
        got = await cloud.ok("GET", path)
        assert {name: got[name] for name in values} == values
        assert [each["name"] for each in (await cloud.ok("GET", "/ai/deployment"))["deployments"]] == ["new"]
        for nothing in (b"", b"{}"):
            target = f"{ROOT}{path}"
            signed = authorization(cloud.credential, cloud.secret, method="PATCH", target=target, body=nothing)
            same = (await cloud.send("PATCH", target, nothing, {"authorization": signed})).json
            assert (same["state"], same["reference"]["id"]) == ("success", id)
            assert await cloud.ok("GET", f"/operation/{same['id']}") == same
        await cloud.wait(await cloud.ok("PATCH", path, {"inference-engine-parameters": []}))
        assert (await cloud.ok("GET", path))["inference-engine-parameters"] == []
        await cloud.deploy("other")
        assert "taken" in told(await cloud.call("PATCH", path, {"name": "other"}), 409)

    play(main)


def test_the_key_of_a_deployment_is_shown_as_often_as_it_is_asked_for_and_goes_with_it() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.deploy()
        secret = (await cloud.ok("GET", f"/ai/deployment/{id}/api-key"))["api-key"]
        assert (await cloud.ok("GET", f"/ai/deployment/{id}/api-key"))["api-key"] == secret
        keys = cloud.api.world.stoker.keys
        assert keys.principal(secret).endpoints == frozenset({id})
        other = await cloud.deploy("other")
        assert (await cloud.ok("GET", f"/ai/deployment/{other}/api-key"))["api-key"] != secret
        assert (await cloud.ok("GET", "/ai/api-key"))["ai-api-keys"] == [], "these are none that somebody made"
        await cloud.ok("DELETE", f"/ai/deployment/{id}")
        refused = await cloud.api.call("GET", "/info", key=secret)
        assert refused.status == 401

    play(main)


def test_logs_are_the_last_lines_of_all_replicas() -> None:
    async def main(cloud: Cloud) -> None:
        operation = await cloud.ok("POST", "/ai/deployment", deployment(replicas=2))
        await cloud.wait(operation)
        id = operation["reference"]["id"]
        provider: Any = cloud.api.world.providers["process"]
        for number, worker in enumerate(sorted(provider.workers)):
            for line in range(60):
                provider.say(worker, f"worker {number} line {line}")
        path = f"/ai/deployment/{id}/logs"
        assert len((await cloud.ok("GET", path))["logs"]) == 100
        for query in ("?tail=3", "?tail=3&stream=True", "?stream=false&tail=3"):
            lines = (await cloud.ok("GET", path + query))["logs"]
            assert len(lines) == 3
            assert set(lines[0]) == {"time", "message", "node"}
            assert lines == sorted(lines, key=lambda line: line["time"])
        for query in ("?tail=-1", "?tail=many", "?tail=10001", "?stream=perhaps"):
            told(await cloud.call("GET", path + query), 400)

    play(main)


WRONG: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"name": ""}, 400, "name", "at least 1 character"),
    # What `exo` sends without --replicas.
    ({"replicas": 0}, 400, "replicas", "greater than or equal to 1"),
    ({"replicas": "1"}, 400, "replicas", "valid integer"),
    ({"replicas": True}, 400, "replicas", "valid integer"),
    ({"gpu_count": 9}, 400, "gpu-count", "less than or equal to 8"),
    ({"gpu_count": 0}, 400, "gpu-count", "greater than or equal to 1"),
    ({"gpu_type": None}, 400, "gpu-type", "required"),
    ({"model": {}}, 400, "model", "id or its name"),
    ({"model": "smollm2"}, 400, "model", "must be an object"),
    ({"gpu_type": "gpu9999"}, 400, "gpu-type", "no family"),
    (
        {"inference_engine_version": "0.16.0"},
        400,
        "inference-engine-version",
        'does not have a value in the enumeration ["0.12.0", "0.15.1"]',
    ),
    (
        {"inference_engine_parameters": ["--max-model-len", "512", "--no-such"]},
        400,
        "inference-engine-parameters",
        "--no-such",
    ),
    ({"gpu_type": "gpua5000"}, 412, None, "not enough GPUs"),
    ({"gpu_type": "gpuh100", "replicas": 2}, 412, None, "not enough GPUs"),
    ({"gpu_type": "gpuh100", "gpu_count": 2}, 412, None, "not enough GPUs"),
    ({"model": {"name": "owner/unknown"}}, 412, None, "create it first"),
    ({"model": {"id": str(uuid4())}}, 412, None, "create it first"),
]


def test_a_create_that_cannot_be_is_told_why_and_changes_nothing() -> None:
    async def main(cloud: Cloud) -> None:
        before = await cloud.api.dump()
        for wrong, status, where, text in WRONG:
            answer = await cloud.call("POST", "/ai/deployment", deployment(**wrong))
            detail = told(answer, status)
            if where is not None:
                [error] = answer.json["errors"]
                assert error["location"].startswith(f"$['{where}']"), error
                assert error["pointer"].startswith(f"/{where}")
                detail += error["detail"]
            assert text in detail, wrong
        assert await cloud.api.dump() == before

    play(main)


def test_a_name_that_is_taken_and_unknown_ids_are_refused() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.deploy("d")
        assert "taken" in told(await cloud.call("POST", "/ai/deployment", deployment("d")), 412)
        for name in (str(uuid4()), "d", "1", "x" * 500):
            for method, rest, value in (
                ("GET", "", None),
                ("PATCH", "", {"name": "x"}),
                ("DELETE", "", None),
                ("POST", "/scale", {"replicas": 1}),
                ("GET", "/api-key", None),
                ("GET", "/logs", None),
            ):
                told(await cloud.call(method, f"/ai/deployment/{name}{rest}", value), 404)
        bodies: list[object] = [{}, {"replicas": -1}, {"replicas": 1.5}, {"replicas": 10_000}, []]
        for body in bodies:
            told(await cloud.call("POST", f"/ai/deployment/{id}/scale", body), 400)

    play(main)


def test_a_deployment_whose_workers_do_not_start_is_an_error_and_its_operation_says_so() -> None:
    async def main(cloud: Cloud) -> None:
        provider: Any = cloud.api.world.providers["process"]
        provider.exit_code = 1
        operation = await cloud.ok("POST", "/ai/deployment", deployment())
        while operation["state"] == "pending":
            operation = await cloud.ok("GET", f"/operation/{operation['id']}")
        assert (operation["state"], operation["reason"]) == ("failure", "fault")
        assert operation["message"].startswith("the worker does not start")
        got = await cloud.ok("GET", f"/ai/deployment/{operation['reference']['id']}")
        assert got["state"] == "error"
        assert got["state-details"]

    play(main)


def test_an_operation_that_a_later_change_overtook_says_so() -> None:
    async def main(cloud: Cloud) -> None:
        cloud.api.world.load_s = 60.0
        first = await cloud.ok("POST", "/ai/deployment", deployment(replicas=2))
        path = f"/ai/deployment/{first['reference']['id']}"
        await cloud.ok("PATCH", path, {"inference-engine-parameters": ["--max-num-seqs", "2"]})
        overtaken = await cloud.wait(first)
        assert (overtaken["state"], overtaken["reason"]) == ("failure", "conflict")
        second = await cloud.ok("POST", f"{path}/scale", {"replicas": 1})
        await cloud.ok("DELETE", path)
        ended = await cloud.wait(second)
        assert (ended["state"], ended["reason"]) == ("failure", "interrupted")

    play(main)


def test_only_what_fits_a_family_in_any_spelling_is_taken() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.deploy("h", gpu_type="gpuh100")
        got = await cloud.ok("GET", f"/ai/deployment/{id}")
        assert (got["gpu-type"], got["gpu-count"]) == ("gpuh100", 1)
        native = await cloud.api.call(
            "POST",
            "/endpoints",
            spec("n", pools=[{"provider": "fake", "hardware": {"gpu_family": "h100", "gpu_count": 1}}]),
        )
        assert native.status == 201
        listed = (await cloud.ok("GET", "/ai/deployment"))["deployments"]
        assert [each["gpu-type"] for each in listed] == ["gpuh100", "gpuh100"]

    play(main)

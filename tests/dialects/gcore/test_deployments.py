"""Deployments through Gcore's API: real control, simulated machines, virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.client import spec
from dialects.gcore.client import DEPLOYMENTS, FLAVOR, Cloud, container, deployment, play, told
from stoker.domain.errors import Unavailable
from stoker.providers.fake import FakeProvider

PROBE = {
    "exec": {"command": ["true"]},
    "failure_threshold": 5,
    "http_get": {"headers": {"A": "b"}, "host": "h", "path": "/up", "port": 80, "schema": "HTTP"},
    "initial_delay_seconds": 1,
    "period_seconds": 2,
    "success_threshold": 1,
    "tcp_socket": {"port": 80},
    "timeout_seconds": 4,
}


def test_a_deployment_from_create_to_gone() -> None:
    async def main(cloud: Cloud) -> None:
        [task] = (await cloud.ok("POST", DEPLOYMENTS, deployment()))["tasks"]
        done = await cloud.finished(task)
        assert done["created_resources"] == {"inference_instances": ["demo"]}
        assert (done["task_type"], done["data"]["name"]) == ("create_inference_instance", "demo")
        assert await cloud.ok("GET", f"/v1/tasks/{task}") == done
        got = await cloud.ok("GET", f"{DEPLOYMENTS}/demo")
        while got["status"] != "ACTIVE":
            assert got["status"] in ("DEPLOYING", "PARTIALLYDEPLOYED")
            await asyncio.sleep(1)
            got = await cloud.ok("GET", f"{DEPLOYMENTS}/demo")
        assert got["containers"][0]["deploy_status"] == {"ready": 1, "total": 1}
        assert got["containers"][0]["error_message"] is None
        assert got["address"].startswith("http://127.0.0.1:7878/gcore/deployment/")
        assert (await cloud.ok("GET", DEPLOYMENTS)) == {"count": 1, "results": [got]}
        assert (await cloud.call("POST", f"{DEPLOYMENTS}/demo/stop")).status == 204
        assert (await cloud.ok("GET", f"{DEPLOYMENTS}/demo"))["status"] == "DISABLED"
        assert (await cloud.call("POST", f"{DEPLOYMENTS}/demo/start")).status == 204
        [task] = (await cloud.ok("DELETE", f"{DEPLOYMENTS}/demo"))["tasks"]
        assert (await cloud.finished(task))["created_resources"] is None
        told(await cloud.call("GET", f"{DEPLOYMENTS}/demo"), 404, "NotFoundError")

    play(main)


def test_what_is_left_out_is_the_default_and_everything_said_comes_back() -> None:
    async def main(cloud: Cloud) -> None:
        plain = await cloud.deploy("plain")
        assert (plain["description"], plain["credentials_name"], plain["timeout"]) == ("", "", 120)
        assert (plain["command"], plain["probes"], plain["logging"], plain["api_keys"]) == (None, None, None, None)
        assert (plain["auth_enabled"], plain["envs"], plain["object_references"]) == (False, {}, [])
        scale = plain["containers"][0]["scale"]
        assert (scale["cooldown_period"], scale["polling_interval"]) == (60, 30)
        nothing = dict.fromkeys(("gpu_memory", "gpu_utilization", "http", "sqs"))
        assert scale["triggers"] == {"cpu": {"threshold": 80}, "memory": {"threshold": 80}, **nothing}
        probes = {f"{name}_probe": {"enabled": True, "probe": PROBE} for name in ("liveness", "readiness", "startup")}
        triggers: dict[str, dict[str, Any]] = {
            "http": {"rate": 1, "window": 60},
            "sqs": {
                "activation_queue_length": 1,
                "aws_region": "us-east-1",
                "queue_length": 10,
                "queue_url": "https://sqs.us-east-1.amazonaws.com/1/q",
                "secret_name": "x",
            },
        }
        logging = {
            "destination_region_id": 1,
            "enabled": True,
            "retention_policy": {"period": 1},
            "topic_name": "my-log-name",
        }
        said: dict[str, Any] = {
            "command": ["nginx", "-g", "daemon off;"],
            "description": "words",
            "envs": {"A": "1"},
            "ingress_opts": {"disable_response_buffering": True},
            "logging": logging,
            "probes": probes,
            "timeout": 300,
            "containers": [container(cooldown_period=10, polling_interval=5, triggers=triggers)],
        }
        full = await cloud.deploy("full", **said)
        assert full["command"] == "nginx -g daemon off;"
        for name in ("description", "envs", "ingress_opts", "logging", "probes", "timeout"):
            assert full[name] == said[name]
        [one] = full["containers"]
        assert (one["scale"]["cooldown_period"], one["scale"]["polling_interval"]) == (10, 5)
        assert one["scale"]["triggers"]["http"] == triggers["http"]
        assert one["scale"]["triggers"]["cpu"] is None, "a set that is given has no others in it"
        sqs = {**triggers["sqs"], "aws_endpoint": None, "scale_on_delayed": False, "scale_on_flight": False}
        assert one["scale"]["triggers"]["sqs"] == sqs
        [native] = [e for e in (await cloud.api.call("GET", "/endpoints")).json["items"] if e["spec"]["name"] == "full"]
        assert native["spec"]["scaling"]["idle_timeout_s"] == 300
        assert native["spec"]["scaling"]["scale_down_delay_s"] == 10
        assert native["spec"]["logging"]["retention_s"] == 86_400
        assert native["spec"]["probes"]["readiness"]["path"] == "/up"

    play(main)


def test_an_update_changes_what_it_says_and_null_leaves_it() -> None:
    async def main(cloud: Cloud) -> None:
        pace: dict[str, Any] = {"cooldown_period": 10, "triggers": {"gpu_memory": {"threshold": 70}}}
        before = await cloud.deploy(description="old", envs={"A": "1"}, containers=[container(**pace)])
        path = f"{DEPLOYMENTS}/demo"
        unchanged = dict.fromkeys(("timeout", "command", "flavor_name", "credentials_name", "description", "image"))
        assert await cloud.ok("PATCH", path, unchanged) == {"tasks": []}
        assert await cloud.ok("GET", path) == before | {"status": (await cloud.ok("GET", path))["status"]}
        change = {"description": "", "envs": {}, "timeout": 0, "containers": [container(min=0, max=5)]}
        [task] = (await cloud.ok("PATCH", path, change))["tasks"]
        assert (await cloud.finished(task))["task_type"] == "update_inference_instance"
        after = await cloud.ok("GET", path)
        assert (after["description"], after["envs"], after["timeout"]) == ("", {}, 0)
        scale = after["containers"][0]["scale"]
        assert (scale["min"], scale["max"], scale["cooldown_period"]) == (0, 5, 10)
        assert scale["triggers"]["gpu_memory"] == {"threshold": 70}

    play(main)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "No"}, "name"),
        ({"flavor_name": "inference-9vcpu-9gib"}, "flavor_name"),
        ({"containers": []}, "containers"),
        ({"containers": [container(99)]}, "containers.0.region_id"),
        ({"containers": [container(), container()]}, "containers.1.region_id"),
        ({"containers": [container(min=3, max=2)]}, "containers.0.scale"),
        ({"credentials_name": "nobody"}, "credentials_name"),
        ({"api_keys": ["nobody"]}, "api_keys"),
        ({"auth_enabled": True, "api_keys": []}, "body"),
        ({"listening_port": 0}, "listening_port"),
        ({"timeout": -1}, "timeout"),
        ({"probes": {"other": None}}, "probes.other"),
    ],
)
def test_what_does_not_fit_is_told_by_field_and_makes_nothing(change: dict[str, Any], field: str) -> None:
    async def main(cloud: Cloud) -> None:
        fields = told(await cloud.call("POST", DEPLOYMENTS, deployment(**change)), 400, "ValidationError")
        assert field in fields, fields
        assert (await cloud.ok("GET", DEPLOYMENTS))["count"] == 0

    play(main)


def test_the_same_create_again_is_the_same_task_and_another_of_that_name_a_conflict() -> None:
    async def main(cloud: Cloud) -> None:
        first = await cloud.ok("POST", DEPLOYMENTS, deployment())
        assert await cloud.ok("POST", DEPLOYMENTS, deployment()) == first
        other = await cloud.call("POST", DEPLOYMENTS, deployment(description="other"))
        told(other, 409, "ConflictError")
        assert other.headers["x-should-retry"] == "false"

    play(main)


def test_one_that_was_made_elsewhere_is_shown_with_what_it_lacks_computed() -> None:
    async def main(cloud: Cloud) -> None:
        await cloud.api.call("POST", "/endpoints", spec("elsewhere", min=0, max=3))
        got = await cloud.ok("GET", f"{DEPLOYMENTS}/elsewhere")
        assert (got["status"], got["image"], got["command"]) == ("PENDING", "stoker/command", "serve")
        assert got["flavor_name"] == "inference-0vcpu-0gib"
        assert got["containers"][0]["region_id"] == 1
        assert await cloud.ok("PATCH", f"{DEPLOYMENTS}/elsewhere", {"description": "seen"})
        assert (await cloud.ok("GET", f"{DEPLOYMENTS}/elsewhere"))["description"] == "seen"

    play(main)


def test_keys_are_attached_by_name_and_held_while_they_are() -> None:
    async def main(cloud: Cloud) -> None:
        keys, path = "/v3/inference/1/api_keys", f"{DEPLOYMENTS}/demo"
        made = await cloud.ok("POST", keys, {"name": "key1", "description": "d"})
        assert (made["deployment_names"], made["description"], made["expires_at"]) == ([], "d", None)
        assert made["secret"]
        told(await cloud.call("POST", keys, {"name": "key1"}), 409, "ConflictError")
        got = await cloud.deploy(api_keys=["key1"])
        assert (got["auth_enabled"], got["api_keys"]) == (True, ["key1"])
        shown = await cloud.ok("GET", f"{keys}/key1")
        assert shown["deployment_names"] == ["demo"]
        assert "secret" not in shown
        told(await cloud.call("DELETE", f"{keys}/key1"), 409, "ConflictError")
        cleared = await cloud.ok("PATCH", f"{keys}/key1", {"description": None})
        assert cleared["description"] is None
        await cloud.ok("PATCH", path, {"api_keys": []})
        after = await cloud.ok("GET", path)
        assert (after["auth_enabled"], after["api_keys"]) == (False, None)
        assert (await cloud.call("DELETE", f"{keys}/key1")).status == 204
        told(await cloud.call("GET", f"{keys}/key1"), 404, "NotFoundError")

    play(main)


def test_one_with_authentication_has_a_key_of_its_own() -> None:
    async def main(cloud: Cloud) -> None:
        await cloud.deploy("open")
        told(await cloud.call("GET", f"{DEPLOYMENTS}/open/apikey"), 404, "NotFoundError")
        await cloud.deploy("shut", auth_enabled=True)
        assert (await cloud.ok("GET", f"{DEPLOYMENTS}/shut/apikey"))["status"] == "READY"

    play(main)


def test_tasks_are_listed_by_state_and_marked_as_seen() -> None:
    async def main(cloud: Cloud) -> None:
        await cloud.deploy("one0")
        await asyncio.sleep(2)
        await cloud.deploy("two0")
        page = await cloud.ok("GET", "/v1/tasks?state=FINISHED&state=ERROR&project_id=1&project_id=7&limit=1")
        assert (page["count"], len(page["results"])) == (2, 1)
        seen = await cloud.ok("POST", f"/v1/tasks/{page['results'][0]['id']}/acknowledge")
        assert seen["acknowledged_at"]
        assert (await cloud.ok("GET", "/v1/tasks?is_acknowledged=false"))["count"] == 1
        assert (await cloud.call("POST", "/v1/tasks/acknowledge_all?project_id=1")).status == 204
        assert (await cloud.ok("GET", "/v1/tasks?is_acknowledged=false"))["count"] == 0
        assert (await cloud.ok("GET", "/v1/tasks/1/1/active"))["count"] == 0
        newest = page["results"][0]["created_on"]
        assert (await cloud.ok("GET", f"/v1/tasks?to_timestamp={newest}"))["count"] == 2
        assert (await cloud.ok("GET", f"/v1/tasks?from_timestamp={newest}&order_by=asc"))["count"] == 1
        assert (await cloud.ok("GET", "/v1/tasks?task_type=delete_inference_instance"))["count"] == 0
        assert (await cloud.ok("GET", "/v1/tasks?region_id=1"))["count"] == 0
        told(await cloud.call("GET", "/v1/tasks/none"), 404, "NotFoundError")

    play(main)


def test_a_deletion_that_does_not_come_to_its_end_is_a_task_that_failed() -> None:
    async def main(cloud: Cloud) -> None:
        await cloud.deploy()
        providers = [p for p in cloud.api.world.providers.values() if isinstance(p, FakeProvider)]
        for provider in providers:
            provider.list_error = Unavailable("nobody knows what runs there")
        [task] = (await cloud.ok("DELETE", f"{DEPLOYMENTS}/demo"))["tasks"]
        assert (await cloud.ok("GET", f"/v1/tasks/{task}"))["state"] == "RUNNING"
        assert [each["id"] for each in (await cloud.ok("GET", "/v1/tasks/1/1/active"))["results"]] == [task]
        await asyncio.sleep(cloud.api.world.settings.operation_timeout_s + 10)
        failed = await cloud.ok("GET", f"/v1/tasks/{task}")
        assert (failed["state"], failed["created_resources"]) == ("ERROR", None)
        assert failed["error"]
        assert failed["finished_on"]
        for provider in providers:
            provider.list_error = None

    play(main)


def test_flavors_are_what_machines_have_and_capacity_is_what_is_free() -> None:
    async def main(cloud: Cloud) -> None:
        flavors = {each["name"]: each for each in (await cloud.ok("GET", "/v3/inference/flavors"))["results"]}
        assert flavors[FLAVOR]["memory"] == 8
        [card] = [each for each in flavors.values() if each["gpu"]]
        assert (card["gpu_model"], card["gpu_memory"]) == ("h100", 80)
        assert await cloud.ok("GET", f"/v3/inference/flavors/{card['name']}") == card
        [region] = (await cloud.ok("GET", "/v3/inference/capacity"))["results"]
        assert region["region_id"] == 1
        assert {each["flavor_name"] for each in region["capacity"]} == set(flavors)
        told(await cloud.call("GET", "/v3/inference/flavors/none"), 404, "NotFoundError")
        got = await cloud.deploy("card", flavor_name=card["name"])
        assert got["flavor_name"] == card["name"]

    play(main)


def test_log_ins_and_secrets_are_kept_and_never_shown() -> None:
    async def main(cloud: Cloud) -> None:
        path = "/v3/inference/1/registry_credentials"
        login = {"username": "u", "password": "hidden", "registry_url": "https://registry.example.com"}
        made = await cloud.ok("POST", path, {"name": "docker-io", **login})
        assert made == {"project_id": 1, "name": "docker-io", "username": "u", "registry_url": "registry.example.com"}
        assert (await cloud.ok("PUT", f"{path}/docker-io", {**login, "username": "v"}))["username"] == "v"
        assert (await cloud.ok("GET", path))["count"] == 1
        fields = told(
            await cloud.call("PUT", f"{path}/docker-io", {**login, "registry_url": "a b"}), 400, "ValidationError"
        )
        assert list(fields) == ["registry_url"]
        assert (await cloud.call("DELETE", f"{path}/docker-io")).status == 204
        path = "/v3/inference/1/secrets"
        value = {"type": "aws-iam", "data": {"aws_access_key_id": "id", "aws_secret_access_key": "hidden"}}
        answers = [
            await cloud.call("POST", path, {"name": "aws-dev", **value}),
            await cloud.call("GET", path),
            await cloud.call("GET", f"{path}/aws-dev"),
            await cloud.call("PUT", f"{path}/aws-dev", value),
        ]
        assert all(answer.status == 200 and b"hidden" not in answer.body for answer in answers)
        assert (await cloud.call("DELETE", f"{path}/aws-dev")).status == 204
        told(await cloud.call("GET", f"{path}/aws-dev"), 404, "NotFoundError")

    play(main)


def test_who_has_no_right_or_asks_for_what_is_not_there_is_told_in_that_clouds_words() -> None:
    async def main(cloud: Cloud) -> None:
        told(await cloud.call("GET", DEPLOYMENTS, key=""), 401, "token_not_valid")
        told(await cloud.call("GET", DEPLOYMENTS, key="sk-none"), 401, "token_not_valid")
        told(await cloud.call("GET", "/v3/nothing"), 404, "NotFoundError")
        told(await cloud.call("PUT", DEPLOYMENTS), 405, "HTTPError")
        told(await cloud.call("GET", "/v3/inference/99/deployments"), 404, "NotFoundError")
        told(await cloud.call("GET", f"{DEPLOYMENTS}?limit=0"), 400, "ValidationError")

    play(main)

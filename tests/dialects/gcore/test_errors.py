"""Every refusal in that cloud's envelope: who may not, what is not there, what does not fit, what clashes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from api.client import Exchange
from dialects.gcore.client import DEPLOYMENTS, ROOT, Cloud, container, deployment, play, told
from stoker.dialects.gcore.errors import ERRORS_SHOWN_MAX, translated
from stoker.domain.access import Scope
from stoker.domain.endpoint import ProjectId

INFERENCE = "/v3/inference/1"
SECRET = {"type": "aws-iam", "data": {"aws_access_key_id": "a", "aws_secret_access_key": "b"}}
LOGIN = {"username": "u", "password": "p", "registry_url": "registry.test"}


async def raw(cloud: Cloud, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    sent = {"host": "127.0.0.1:7878", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await Exchange(cloud.api.app, method, ROOT + path, sent, body).answer()


def test_a_key_is_taken_by_its_scheme_in_any_case_and_as_a_bearer() -> None:
    async def main(cloud: Cloud) -> None:
        key = cloud.api.secret
        for given in (f"APIKey {key}", f"apikey {key}", f"APIKEY  {key} ", f"Bearer {key}"):
            assert (await raw(cloud, "GET", DEPLOYMENTS, authorization=given)).status == 200, given
        assert (await raw(cloud, "GET", DEPLOYMENTS, x_api_key=key)).status == 200
        for wrong in ("", "APIKey", "APIKey ", "APIKey My API Key", f"Basic {key}", f"Token {key}", key):
            told(await raw(cloud, "GET", DEPLOYMENTS, authorization=wrong), 401, "token_not_valid")

    play(main)


def test_a_key_that_may_only_look_looks_and_is_forbidden_the_rest() -> None:
    async def main(cloud: Cloud) -> None:
        await cloud.ok("POST", f"{INFERENCE}/api_keys", {"name": "key1"})
        await cloud.deploy("seen", api_keys=["key1"])
        reader = await cloud.api.key(Scope.READ)
        shown = (await cloud.call("GET", f"{DEPLOYMENTS}/seen", key=reader)).json
        assert (shown["auth_enabled"], shown["api_keys"]) == (True, None), "which keys, admins alone see"
        assert (await cloud.call("GET", DEPLOYMENTS, key=reader)).json["count"] == 1
        for method, path, body in (
            ("POST", DEPLOYMENTS, deployment("other")),
            ("PATCH", f"{DEPLOYMENTS}/seen", {"description": "x"}),
            ("DELETE", f"{DEPLOYMENTS}/seen", None),
            ("POST", f"{DEPLOYMENTS}/seen/stop", None),
            ("POST", f"{INFERENCE}/secrets", {"name": "aws-dev", **SECRET}),
            ("GET", f"{INFERENCE}/api_keys", None),
            ("POST", f"{INFERENCE}/registry_credentials", {"name": "login", **LOGIN}),
        ):
            told(await cloud.call(method, path, body, key=reader), 403, "ForbiddenError")
        deployer = await cloud.api.key(Scope.DEPLOY)
        changed = await cloud.call("PATCH", f"{DEPLOYMENTS}/seen", {"api_keys": []}, key=deployer)
        told(changed, 403, "ForbiddenError")
        assert (await cloud.ok("GET", f"{DEPLOYMENTS}/seen"))["api_keys"] == ["key1"]

    play(main)


def test_another_project_is_not_there_for_a_key_of_one() -> None:
    async def main(cloud: Cloud) -> None:
        made = await cloud.api.world.stoker.keys.create(ProjectId(1), name="own", scopes=frozenset({Scope.ADMIN}))
        assert (await cloud.call("GET", DEPLOYMENTS, key=made[1])).status == 200
        for project in (0, 2, -1, 10**30):
            answer = await cloud.call("GET", f"/v3/inference/{project}/deployments", key=made[1])
            told(answer, 404, "NotFoundError")
        told(await cloud.call("GET", "/v3/inference/one/deployments", key=made[1]), 400, "ValidationError")

    play(main)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b'"\\ud800"', "surrogate"),
        (b'{"name": "\\ud800"}', "surrogate"),
    ],
)
def test_a_body_that_is_none_is_told(body: bytes, message: str) -> None:
    async def main(cloud: Cloud) -> None:
        given = {"authorization": f"APIKey {cloud.api.secret}", "content_type": "application/json"}
        answer = await raw(cloud, "POST", DEPLOYMENTS, body, **given)
        assert (answer.status, answer.json["exception_class"]) == (400, "ValidationError")
        assert message in answer.json["message"]

    play(main)


def test_a_body_without_fields_or_of_another_kind_names_what_is_missing() -> None:
    async def main(cloud: Cloud) -> None:
        fields = told(await cloud.call("POST", DEPLOYMENTS, {}), 400, "ValidationError")
        assert set(fields) == {"containers", "flavor_name", "image", "listening_port", "name"}
        assert fields["name"] == ["Field required"]
        told(await cloud.call("POST", DEPLOYMENTS, []), 400, "ValidationError")
        many: dict[str, object] = {"containers": [{}] * 100}
        fields = told(await cloud.call("PATCH", f"{DEPLOYMENTS}/any", many), 400, "ValidationError")
        assert len(fields) <= ERRORS_SHOWN_MAX
        body = (await cloud.call("POST", DEPLOYMENTS, {})).json
        assert body["message"] == f"Validation Error: {json.dumps(body['invalid_fields'])}"

    play(main)


@pytest.mark.parametrize(
    ("scale", "field"),
    [
        ({"max": 301}, "containers.0.scale.max"),
        ({"min": -1}, "containers.0.scale.min"),
        ({"cooldown_period": 0}, "containers.0.scale.cooldown_period"),
        ({"cooldown_period": 3601}, "containers.0.scale.cooldown_period"),
        ({"polling_interval": 4}, "containers.0.scale.polling_interval"),
        ({"triggers": {"cpu": {"threshold": 101}}}, "containers.0.scale.triggers.cpu.threshold"),
        ({"triggers": {"memory": {"threshold": 0}}}, "containers.0.scale.triggers.memory.threshold"),
        ({"triggers": {"http": {"rate": 1001, "window": 1}}}, "containers.0.scale.triggers.http.rate"),
        ({"triggers": {"http": {"rate": 1}}}, "containers.0.scale.triggers.http.window"),
        ({"triggers": {"sqs": {}}}, "containers.0.scale.triggers.sqs.queue_url"),
    ],
)
def test_limits_are_those_of_that_cloud(scale: dict[str, Any], field: str) -> None:
    async def main(cloud: Cloud) -> None:
        body = deployment(containers=[container(**scale)])
        fields = told(await cloud.call("POST", DEPLOYMENTS, body), 400, "ValidationError")
        assert field in fields, fields

    play(main)


def test_a_trigger_whose_secret_is_not_there_makes_nothing() -> None:
    async def main(cloud: Cloud) -> None:
        sqs = {
            "activation_queue_length": 1,
            "aws_endpoint": "https://sqs.test",
            "aws_region": "eu",
            "queue_length": 1,
            "queue_url": "https://sqs.test/1/q",
            "secret_name": "nobody",
        }
        body = deployment(containers=[container(triggers={"sqs": sqs})])
        assert list(told(await cloud.call("POST", DEPLOYMENTS, body), 400, "ValidationError")) == ["containers"]
        await cloud.ok("POST", f"{INFERENCE}/secrets", {"name": "nobody", **SECRET})
        await cloud.ok("POST", DEPLOYMENTS, body)
        told(await cloud.call("DELETE", f"{INFERENCE}/secrets/nobody"), 409, "ConflictError")

    play(main)


def test_names_that_are_taken_and_what_is_in_use_clash_and_are_not_to_be_repeated() -> None:
    async def main(cloud: Cloud) -> None:
        for noun, body in (
            ("secrets", {"name": "twice", **SECRET}),
            ("registry_credentials", {"name": "twice", **LOGIN}),
            ("api_keys", {"name": "twice"}),
        ):
            await cloud.ok("POST", f"{INFERENCE}/{noun}", body)
            clash = await cloud.call("POST", f"{INFERENCE}/{noun}", body)
            told(clash, 409, "ConflictError")
            assert clash.headers["x-should-retry"] == "false", noun
        await cloud.deploy("user", image="registry.test/app:1", credentials_name="twice")
        told(await cloud.call("DELETE", f"{INFERENCE}/registry_credentials/twice"), 409, "ConflictError")
        [task] = (await cloud.ok("DELETE", f"{DEPLOYMENTS}/user"))["tasks"]
        told(await cloud.call("PATCH", f"{DEPLOYMENTS}/user", {"description": "late"}), 409, "ConflictError")
        assert (await cloud.ok("DELETE", f"{DEPLOYMENTS}/user"))["tasks"] == [task], "asked again, the same"
        await cloud.finished(task)

    play(main)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "offset=-1", "order_by=name"])
def test_pages_have_their_bounds(query: str) -> None:
    async def main(cloud: Cloud) -> None:
        await cloud.deploy("logs")
        path = f"{DEPLOYMENTS}/logs/logs?{query}"
        assert list(told(await cloud.call("GET", path), 400, "ValidationError")) == [query.partition("=")[0]]

    play(main)


def test_pages_count_all_and_show_some() -> None:
    async def main(cloud: Cloud) -> None:
        for name in ("key1", "key2", "key3"):
            await cloud.ok("POST", f"{INFERENCE}/api_keys", {"name": name})
            await asyncio.sleep(1)
        page = await cloud.ok("GET", f"{INFERENCE}/api_keys?limit=2&offset=1")
        assert (page["count"], [each["name"] for each in page["results"]]) == (3, ["key2", "key3"])
        assert (await cloud.ok("GET", f"{INFERENCE}/api_keys?offset=9"))["results"] == []

    play(main)


@pytest.mark.parametrize(
    ("pointer", "field"),
    [
        ("/launch/env/A", "envs"),
        ("/launch/credential", "credentials_name"),
        ("/launch", "image"),
        ("/launcher", "launcher"),
        ("/pools/0/bounds/min", "containers"),
        ("/scaling/triggers/1/secret", "containers"),
        ("/containers/1/region_id", "containers.1.region_id"),
        ("/a~1b/~0c", "a/b.~c"),
        ("", ""),
    ],
)
def test_places_of_a_spec_are_named_as_fields(pointer: str, field: str) -> None:
    assert translated(pointer) == field

"""Gcore's own Python package, unmodified and strict about answers, against a real Stoker with real workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from acceptance.installation import until
from clients.gcore import conformance
from clients.gcore.running import IMAGE, Client, Raised, Stoker, opened

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

I = "cloud.inference"  # noqa: E741
D = f"{I}.deployments"
A = f"{I}.applications.deployments"
T = "cloud.tasks"
SMALL = "inference-1vcpu-4gib"
PLAIN: dict[str, Any] = {"image": IMAGE, "listening_port": 80, "flavor_name": SMALL}


def chat(url: str, headers: dict[str, str]) -> tuple[int, Any]:
    """Ask the model at that address for a few words."""
    parts = urlsplit(url)
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    path = f"{parts.path}/v1/chat/completions"
    with closing(HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)) as connection:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
        with connection.getresponse() as answer:
            return answer.status, json.loads(answer.read())


def containers(*, low: int = 1, high: int = 2) -> list[dict[str, Any]]:
    return [{"region_id": 1, "scale": {"min": low, "max": high}}]


def refused(call: Callable[[], object], kind: str, status: int, word: str) -> None:
    """The client must raise this for an answer of this status that says this word."""
    with pytest.raises(Raised, match=word) as raised:
        call()
    assert (raised.value.kind, raised.value.status) == (kind, status)


# Each version and each flavor once; the other two pairs are driven by the rest.
@pytest.mark.parametrize("client", ["0.41.0-async", "0.59.0-sync"], indirect=True)
def test_the_whole_story_by_the_client_alone(stoker: Stoker, client: tuple[str, Client]) -> None:
    name, call = client
    [flavor] = [each for each in call(f"{I}.flavors.list.all") if each["gpu"] == 1]
    assert call(f"{I}.flavors.get", flavor_name=flavor["name"]) == flavor
    assert call(f"{I}.get_capacity_by_region")["results"][0]["region_id"] == 1
    key = call(f"{I}.api_keys.create", name="team", description="d", expires_at="2040-01-01T00:00:00Z")
    made = call(
        f"{D}.create_and_poll",
        name="story",
        image=IMAGE,
        listening_port=80,
        flavor_name=flavor["name"],
        containers=containers(),
        api_keys=["team"],
        description="d",
        envs={"A": "1"},
        ingress_opts={"disable_response_buffering": True},
        logging={"enabled": True, "retention_policy": {"period": 3}},
    )
    assert (made["name"], made["api_keys"], made["auth_enabled"]) == ("story", ["team"], True)
    until(lambda: call(f"{D}.get", deployment_name="story")["status"] == "ACTIVE", what="it is active")
    for headers in ({"Authorization": f"Bearer {key['secret']}"}, {"X-Api-Key": key["secret"]}):
        status, answer = chat(made["address"], headers)
        assert (status, len(answer["choices"])) == (200, 1), answer
    assert chat(made["address"], {})[0] == 401
    _scaled_and_updated(call, made["address"])
    lines = call(f"{D}.logs.list.all", deployment_name="story", limit=10, order_by="time.asc", region_id=1)
    assert lines
    assert all(line["message"] and line["pod"] for line in lines)
    call(f"{D}.stop", deployment_name="story")
    assert call(f"{D}.get", deployment_name="story")["status"] == "DISABLED"
    call(f"{D}.start", deployment_name="story")
    assert call(f"{D}.delete_and_poll", deployment_name="story") is None
    refused(lambda: call(f"{D}.get", deployment_name="story"), "NotFoundError", 404, "no deployment")
    call(f"{I}.api_keys.delete", api_key_name="team")
    _around(call, old=name.startswith("0.41"))
    assert conformance.of(f"gcore-{name.partition('-')[0]}") - call.driven == set()


def _scaled_and_updated(call: Client, address: str) -> None:
    scaled = call(f"{D}.update_and_poll", deployment_name="story", containers=containers(low=2, high=2))
    assert scaled["containers"][0]["scale"]["min"] == 2
    until(
        lambda: call(f"{D}.get", deployment_name="story")["containers"][0]["deploy_status"] == {"ready": 2, "total": 2},
        within_s=60,
        what="two are ready",
    )
    tasks = call(f"{D}.update", deployment_name="story", description="x", api_keys=[], api_timeout=0)["tasks"]
    assert call(f"{T}.poll", task_id=tasks[0])["state"] == "FINISHED"
    assert call(f"{T}.get", task_id=tasks[0])["task_type"] == "update_inference_instance"
    after = call(f"{D}.get", deployment_name="story")
    assert (after["description"], after["timeout"], after["auth_enabled"]) == ("x", 0, False)
    assert chat(address, {})[0] == 200, "without keys it is open"
    assert "story" in [each["name"] for each in call(f"{D}.list.all", limit=1)]


@pytest.mark.parametrize("client", ["0.41.0-sync", "0.59.0-async"], indirect=True)
def test_what_stands_around_deployments(client: tuple[str, Client]) -> None:
    name, call = client
    _around(call, old=name.startswith("0.41"))


def _around(call: Client, *, old: bool) -> None:
    _credentials_and_secrets(call)
    _keys(call)
    _tasks(call, old=old)
    _applications(call)
    _catalogue(call)


def _credentials_and_secrets(call: Client) -> None:
    path = f"{I}.registry_credentials"
    login = {"username": "u", "password": "p", "registry_url": "https://registry.example.com"}
    assert call(f"{path}.create", name="docker-io", **login)["registry_url"] == "registry.example.com"
    assert [each["name"] for each in call(f"{path}.list.all")] == ["docker-io"]
    assert call(f"{path}.get", credential_name="docker-io")["username"] == "u"
    assert call(f"{path}.replace", credential_name="docker-io", **{**login, "username": "v"})["username"] == "v"
    call(f"{path}.delete", credential_name="docker-io")
    path = f"{I}.secrets"
    value = {"type": "aws-iam", "data": {"aws_access_key_id": "a", "aws_secret_access_key": "b"}}
    assert call(f"{path}.create", name="aws-dev", **value)["type"] == "aws-iam"
    assert [each["name"] for each in call(f"{path}.list.all")] == ["aws-dev"]
    assert call(f"{path}.get", secret_name="aws-dev")["name"] == "aws-dev"
    assert call(f"{path}.replace", secret_name="aws-dev", **value)["name"] == "aws-dev"
    call(f"{path}.delete", secret_name="aws-dev")


def _keys(call: Client) -> None:
    path = f"{I}.api_keys"
    # The vendor's own tests send an end that is in the past.
    assert call(f"{path}.create", name="key1", expires_at="2019-12-27T18:11:19.117Z")["secret"]
    assert [each["name"] for each in call(f"{path}.list.all")] == ["key1"]
    assert call(f"{path}.update", api_key_name="key1", description="d")["description"] == "d"
    assert call(f"{path}.update", api_key_name="key1", description=None)["description"] is None
    assert call(f"{path}.get", api_key_name="key1")["name"] == "key1"
    call(f"{path}.delete", api_key_name="key1")


def _tasks(call: Client, *, old: bool) -> None:
    [task] = call(f"{D}.create", name="shut", containers=containers(low=0), auth_enabled=True, **PLAIN)["tasks"]
    assert call(f"{T}.poll", task_id=task)["created_resources"]["inference_instances"] == ["shut"]
    assert "shut" in [each["name"] for each in call(f"{D}.list")["results"]]
    if old:
        assert call(f"{D}.get_api_key", deployment_name="shut")["status"] == "READY"
    assert task in [each["id"] for each in call(f"{T}.list.all", state=["FINISHED", "ERROR"], project_id=[1, 8])]
    assert call.by_path("get-task-short", task_id=task)["id"] == task
    assert task not in [each["id"] for each in call.by_path("list-active-tasks", project_id=1, region_id=1)["results"]]
    assert call(f"{T}.acknowledge_one", task_id=task)["acknowledged_at"]
    call(f"{T}.acknowledge_all", project_id=1)
    [task] = call(f"{D}.delete", deployment_name="shut")["tasks"]
    assert call(f"{T}.poll", task_id=task)["state"] == "FINISHED"


def _applications(call: Client) -> None:
    [template] = call(f"{I}.applications.templates.list")["results"]
    assert call(f"{I}.applications.templates.get", application_name=template["name"]) == template
    component = {"exposed": True, "flavor": SMALL, "scale": {"min": 0, "max": 1}}
    app = {"application_name": template["name"], "regions": [1]}
    tasks = call(f"{A}.create", name="app", components_configuration={"model": component}, **app)["tasks"]
    assert call(f"{T}.poll", task_id=tasks[0])["task_type"] == "create_inference_application"
    assert call(f"{D}.get", deployment_name="app-model")["object_references"][0]["name"] == "app"
    second = {**component, "parameter_overrides": {"slots": {"value": "2"}}}
    changes: dict[str, Any] = {"model": {"scale": {"min": 0, "max": 2}}, "second": second}
    assert len(call(f"{A}.update", deployment_name="app", components_configuration=changes)["tasks"]) == 2
    got = call(f"{A}.get", deployment_name="app")
    assert got["components_configuration"]["model"]["scale"] == {"min": 0, "max": 2}
    assert set(got["status"]["expose_addresses"]) == {"model", "second"}
    assert got["status"]["consolidated_status"] == "Active", "at zero, where it was asked to be"
    [gone] = call(f"{A}.update", deployment_name="app", components_configuration={"second": None})["tasks"]
    call(f"{T}.poll", task_id=gone)
    [left] = call(f"{A}.list")["results"]
    assert set(left["components_configuration"]) == {"model"}
    [task] = call(f"{A}.delete", deployment_name="app")["tasks"]
    call(f"{T}.poll", task_id=task)
    body = {**app, "components_configuration": {"model": component}}
    assert call.by_path("preview-application-price", body=body)["price_status"] == "hide"


def _catalogue(call: Client) -> None:
    body = {"flavor_name": SMALL, "containers": containers()}
    assert call.by_path("check-limits", project_id=1, body=body) == {}
    assert call.by_path("preview-deployment-price", body=body)["price_per_hour"] is None
    model = next(each for each in call.by_path("list-models")["results"] if each["name"] == "smollm2")
    assert call.by_path("get-model", model_id=model["id"]) == model
    # Its image is one to deploy.
    wanted = {**PLAIN, "image": model["image_url"], "listening_port": model["port"]}
    made = call(f"{D}.create_and_poll", name="catalogued", containers=containers(low=0), **wanted)
    assert made["image"] == model["image_url"]
    assert chat(made["address"], {})[0] == 200, "from zero"
    call(f"{D}.delete_and_poll", deployment_name="catalogued")
    assert [each["id"] for each in call("cloud.projects.list.all", name="default")] == [1]
    assert call("cloud.projects.get", project_id=1)["is_default"] is True
    [region] = call("cloud.regions.list.all", product="inference")
    assert call("cloud.regions.get", region_id=region["id"])["display_name"] == region["display_name"]


@pytest.mark.parametrize("client", ["0.41.0-sync", "0.59.0-async"], indirect=True)
def test_mistakes_are_raised_as_the_client_has_them(
    stoker: Stoker, client: tuple[str, Client], client_python: Callable[[str], Path]
) -> None:
    name, call = client
    version, _, flavor = name.partition("-")
    fine = {"name": "mistake", **PLAIN}
    for wrong in (
        {"flavor_name": "none"},
        {"name": "A"},
        {"api_keys": ["none"]},
        {"credentials_name": "none"},
        {"api_keys": [], "auth_enabled": True},
        {"containers": [{"region_id": 9, "scale": {"min": 0, "max": 1}}]},
        {"containers": containers(low=2, high=1)},
        {"containers": containers(low=0, high=301)},
    ):
        arguments = {**fine, "containers": containers(low=0), **wrong}
        refused(lambda: call(f"{D}.create", **arguments), "BadRequestError", 400, "invalid_fields")  # noqa: B023
    for method, key in (
        (f"{D}.get", "deployment_name"),
        (f"{D}.delete", "deployment_name"),
        (f"{D}.stop", "deployment_name"),
        (f"{I}.api_keys.get", "api_key_name"),
        (f"{I}.secrets.delete", "secret_name"),
        (f"{I}.registry_credentials.get", "credential_name"),
        (f"{I}.flavors.get", "flavor_name"),
        (f"{A}.get", "deployment_name"),
        (f"{T}.get", "task_id"),
    ):
        refused(lambda: call(method, **{key: "nobody"}), "NotFoundError", 404, "NotFoundError")  # noqa: B023
    call(f"{I}.api_keys.create", name="twice")
    refused(lambda: call(f"{I}.api_keys.create", name="twice"), "ConflictError", 409, "already")
    call(f"{I}.api_keys.delete", api_key_name="twice")
    with opened(client_python(f"gcore-{version}"), stoker, version, flavor, key="none at all") as other:
        refused(lambda: other(f"{D}.list"), "AuthenticationError", 401, "token_not_valid")
    with opened(client_python(f"gcore-{version}"), stoker, version, flavor, key=stoker.reader()) as other:
        # What an earlier test deleted may be on its way out.
        until(lambda: other(f"{D}.list")["results"] == call(f"{D}.list")["results"], what="the same for both")
        refused(lambda: other(f"{I}.api_keys.create", name="mine"), "PermissionDeniedError", 403, "ForbiddenError")

"""Exoscale's own Python client against a real Stoker, real workers and the real model."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from acceptance.installation import until
from clients.exoscale import conformance
from clients.exoscale.running import REPO, Client, Raised, Stoker, opened

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def chat(url: str, key: str, model: str) -> tuple[int, Any]:
    """Ask the deployment something; status and answer."""
    split = urlsplit(url)
    connection = HTTPConnection(split.netloc, timeout=60)
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    try:
        connection.request(
            "POST",
            f"{split.path}/v1/chat/completions",
            body=json.dumps(body),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_the_whole_story_by_the_client_alone(client: tuple[str, Client]) -> None:
    version, call = client
    name = f"chat-{version}"
    assert call("list_zones")["zones"][0]["name"] == "ch-dk-2"
    _models(call)
    created = call(
        "create_deployment",
        name=name,
        gpu_type="gpua5000",
        gpu_count=1,
        replicas=1,
        model={"name": REPO},
        inference_engine_parameters=["--max-model-len", "512", "--max-num-seqs=2"],
        inference_engine_version="0.15.1",
    )
    id = created["reference"]["id"]
    assert call.ended(created)["state"] == "success"
    assert call("wait", operation_id=created["id"], max_wait_time=60)["state"] == "success"
    got = call("get_deployment", id=id)
    assert (got["state"], got["gpu-type"], got["model"]["name"]) == ("ready", "gpua5000", REPO)
    [listed] = [each for each in call("list_deployments")["deployments"] if each["id"] == id]
    assert listed["name"] == name
    key = call("reveal_deployment_api_key", id=id)["api-key"]
    status, answer = chat(got["deployment-url"], key, REPO)
    assert status == 200, answer
    assert answer["choices"][0]["message"]["content"]
    assert chat(got["deployment-url"], "sk-wrong", REPO)[0] == 401
    _changes(call, id, name, key)
    assert chat(got["deployment-url"], key, REPO)[0] == 200
    _logs_and_help(call, id)
    if version in conformance.NEWEST:
        _keys(call, id, got["deployment-url"])
    [model] = [each for each in call("list_models")["models"] if each["name"] == REPO]
    with pytest.raises(Raised) as used:
        call("delete_model", id=model["id"])
    assert (used.value.kind, used.value.status) == ("ExoscaleAPIClientException", 412)
    assert f"{name}-2" in used.value.text
    assert call.ended(call("delete_deployment", id=id))["state"] == "success"
    with pytest.raises(Raised) as gone:
        call("get_deployment", id=id)
    assert (gone.value.kind, gone.value.status) == ("ExoscaleAPIClientException", 404)
    assert call.ended(call("delete_model", id=model["id"]))["state"] == "success"
    assert conformance.of(version) - call.driven == set()


def _models(call: Client) -> None:
    created = call("create_model", name=REPO, huggingface_token="hf_x")
    assert call.ended(created)["state"] == "success"
    got = call("get_model", id=created["reference"]["id"])
    assert (got["name"], got["state"]) == (REPO, "ready")
    assert got["model-size"] > 50_000_000


def _changes(call: Client, id: str, name: str, key: str) -> None:
    assert call.ended(call("update_deployment", id=id, name=f"{name}-2"))["state"] == "success"
    assert f"{name}-2" in [each["name"] for each in call("list_deployments")["deployments"]]
    assert call.ended(call("update_deployment", id=id))["state"] == "success", "nothing to change"
    for replicas in (0, 2):
        assert call.ended(call("scale_deployment", id=id, replicas=replicas))["state"] == "success"
        got = call("get_deployment", id=id)
        assert (got["replicas"], got["state"]) == (replicas, "ready")
        if replicas == 0:
            _refused(got["deployment-url"], key)
    with pytest.raises(Raised) as much:
        call("scale_deployment", id=id, replicas=3)
    assert much.value.status == 412
    # Both cards are taken: another one waits for room, and its client no longer than it wants to.
    late = call(
        "create_deployment", name=f"{name}-late", gpu_type="gpua5000", gpu_count=1, replicas=1, model={"name": REPO}
    )
    with pytest.raises(Raised, match="max wait time reached") as waited:
        call("wait", operation_id=late["id"], max_wait_time=1)
    assert waited.value.kind == "ExoscaleAPIClientException"
    assert call("get_deployment", id=late["reference"]["id"])["state"] == "creating"
    assert call.ended(call("delete_deployment", id=late["reference"]["id"]))["state"] == "success"


def _refused(url: str, key: str) -> None:
    until(lambda: chat(url, key, REPO)[0] == 503, what="the refusal at no replicas")


def _logs_and_help(call: Client, id: str) -> None:
    until(lambda: len(call("get_deployment_logs", id=id, tail=3, stream=True)["logs"]) == 3, what="its last lines")
    for version in ("0.12.0", "0.15.1"):
        parameters = call("get_inference_engine_help", version=version)["parameters"]
        assert len(parameters) > 100
        assert all(isinstance(each["default"], str) and each["description"] for each in parameters)
    families = {each["family"]: each["authorized"] for each in call("list_ai_instance_types")["instance-types"]}
    assert (families["gpua5000"], families["gpu3"]) == (True, False)


def _keys(call: Client, id: str, url: str) -> None:
    made = call("create_ai_api_key", name="team", scope=id)
    assert chat(url, made["value"], REPO)[0] == 200
    assert made["id"] in [each["id"] for each in call("list_ai_api_keys")["ai-api-keys"]]
    assert call("get_ai_api_key", id=made["id"])["scope"] == id
    assert call.ended(call("delete_ai_api_key", id=made["id"]))["state"] == "success"
    assert chat(url, made["value"], REPO)[0] == 401
    assert call("get_user_org_consumption_quota") == {"quota-uom-per-minute": None}
    assert len(call("list_deployments", visibility="private")["deployments"]) == 1


def test_mistakes_are_raised_as_the_client_has_them(
    stoker: Stoker, client: tuple[str, Client], client_python: Callable[[str], Path]
) -> None:
    version, call = client
    fine = {"name": "x", "gpu_type": "cpu", "gpu_count": 1, "replicas": 1, "model": {"name": "smollm2"}}
    for wrong, status in (
        ({"gpu_type": "gpu9999"}, 400),
        ({"gpu_type": "gpurtx6000pro"}, 412),
        ({"model": {"name": "owner/unknown"}}, 412),
        ({"inference_engine_version": "0.16.0"}, 400),
        ({"inference_engine_parameters": ["--no-such"]}, 400),
        ({"replicas": 0}, 400),
        ({"gpu_count": 9}, 400),
    ):
        with pytest.raises(Raised) as raised:
            call("create_deployment", **{**fine, **wrong})
        assert (raised.value.kind, raised.value.status) == ("ExoscaleAPIClientException", status), wrong
    for method in ("get_deployment", "delete_deployment", "get_model", "delete_model", "reveal_deployment_api_key"):
        with pytest.raises(Raised) as raised:
            call(method, id=str(uuid4()))
        assert (raised.value.kind, raised.value.status) == ("ExoscaleAPIClientException", 404), method
    first = call("create_model", name="owner/twice")
    with pytest.raises(Raised, match="there is a model 'owner/twice' already") as raised:
        call("create_model", name="owner/twice")
    assert (raised.value.kind, raised.value.status) == ("ExoscaleAPIClientException", 409)
    call("delete_model", id=first["reference"]["id"])
    python = client_python(version)
    for key, secret in ((None, "wrong"), ("EXO0123456789", None)):
        with opened(python, stoker, key=key, secret=secret) as other, pytest.raises(Raised) as raised:
            other("list_deployments")
        assert (raised.value.kind, raised.value.status) == ("ExoscaleAPIAuthException", 403)


def test_waiting_for_what_fails_says_why(stoker: Stoker, client: tuple[str, Client]) -> None:
    _, call = client
    operation = call("create_model", name="owner/missing")
    with pytest.raises(Raised, match="Operation error: failure, not-found"):
        call("wait", operation_id=operation["id"], max_wait_time=30)
    ended = call("get_operation", id=operation["id"])
    assert (ended["state"], ended["reason"]) == ("failure", "not-found")
    assert "404" in ended["message"]
    until(lambda: call("get_model", id=operation["reference"]["id"])["state"] == "error", what="the failure")
    assert call("delete_model", id=operation["reference"]["id"])["state"] == "success"


def test_a_deployment_that_does_not_start_says_why(stoker: Stoker, client_python: Callable[[str], Path]) -> None:
    with opened(client_python(conformance.NEWEST[0]), stoker) as call:
        made = call(
            "create_deployment", name="broken", gpu_type="cpu", gpu_count=1, replicas=1, model={"name": "broken"}
        )
        ended = call.ended(made)
        assert (ended["state"], ended["reason"]) == ("failure", "fault")
        assert ended["message"].startswith("the worker does not start")
        got = call("get_deployment", id=made["reference"]["id"])
        assert got["state"] == "error"
        assert "failed starts" in got["state-details"]
        assert call("get_deployment_logs", id=got["id"])["logs"], "what it said is there"
        assert call.ended(call("delete_deployment", id=got["id"]))["state"] == "success"

"""Vast.ai's own Python package, unmodified, against a real Stoker whose workers are its own PyWorkers."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from acceptance.installation import until
from clients.vast import conformance
from clients.vast.running import CLIENT, LLAMA, TOY, Client, Raised, Stoker, opened

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def test_the_whole_story_of_an_endpoint_with_a_real_model(stoker: Stoker, client: Client) -> None:
    call = client.serverless
    call("create_endpoint", endpoint_name="story", cold_workers=0, max_workers=1)
    group = call("add_workergroup", "story", stoker.template("story", LLAMA))
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    answer = call("managed_request", "story", "/v1/chat/completions", chat)
    assert (answer["ok"], answer["status"]) == (True, 200), answer
    assert answer["response"]["choices"][0]["message"]["content"]
    until(lambda: _idle(client, "story"), what="its worker is idle again, and has told what it can do")
    assert len(call("get_workers", "story")) == 1
    call("delete_workergroup", group)
    call("delete", "story")
    until(lambda: "story" not in [each["endpoint_name"] for each in client.sdk("show_endpoints")], what="it is gone")


@pytest.fixture(scope="module")
def toy(stoker: Stoker, client_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An endpoint whose toy is loaded."""
    with opened(client_python(CLIENT), tmp_path_factory.mktemp("toy"), stoker) as client:
        id = client.serverless("create_endpoint", endpoint_name="toy", cold_workers=0, max_workers=1)
        client.serverless("add_workergroup", "toy", stoker.template("toy", TOY))
        until(lambda: _idle(client, "toy"), what="its worker is ready")
    return id


def _said(client: Client, id: int, *wanted: str) -> bool:
    """Whether the worker's output says each of these patterns by now."""
    debug = str(client.sdk("get_endpt_logs", id, tail=5_000)["debug"])
    return all(re.search(each, debug) for each in wanted)


def _idle(client: Client, endpoint: str) -> bool:
    workers = client.serverless("get_workers", endpoint)
    return any(each["status"].lower() == "idle" and each["measured_perf"] > 0 for each in workers)


def test_requests_streams_retries_and_sessions_reach_a_worker_that_checks_them(
    stoker: Stoker, client: Client, toy: int
) -> None:
    call = client.serverless
    assert call("enter")
    assert call("get_endpoint", "toy") == {"id": toy, "name": "toy"}
    answer = call("request", "toy", "/echo", {"prompt": "hi"}, cost=50)
    assert (answer["ok"], answer["response"]["echo"]) == (True, {"prompt": "hi"})
    assert answer["auth_data"]["cost"] == 50
    assert call("stream", "toy", "/stream", {}) == [{"n": 0}, {"n": 1}, {"n": 2}]
    busy = call("queue", "toy", "/busy", {}, 1)
    assert (busy["ok"], busy["status"]) == (False, 429)
    refused = call("request", "toy", "/refuse", {})
    assert (refused["ok"], refused["status"], refused["response"]) == (False, 422, {"error": "no such prompt"})
    told = call("session", "toy", "/echo", {"turn": 1})
    assert told["open"] is True
    assert [each["response"]["echo"] for each in told["answers"]] == [{"turn": 1}, {"turn": 1}]
    group = call("find_workergroup_for_endpoint", toy)
    assert group // 1_000 == toy
    assert call("fetch_endpoint", toy) == {"id": toy, "name": "toy", "cold_workers": 0}
    # The worker itself says what it did: it had the key, was loaded, and is through with the request.
    loaded = r"\"loadtime\": [1-9]|\"loadtime\": 0\.0*[1-9]"
    ended = rf"Deleting requests: \[[^\]]*\b{answer['request_idx']}\b"
    taken = "delete_requests response: 200"
    until(lambda: _said(client, toy, loaded, ended, taken), what="it tells that the request has ended")


def test_a_worker_refuses_what_is_not_signed_as_it_should_be(stoker: Stoker, toy: int) -> None:
    status, routed = stoker.engine("/route/", {"endpoint": "toy", "cost": 1, "request_idx": 0})
    assert status == 200
    key = serialization.load_pem_public_key(stoker.get("/vast/pubkey/")[1])
    assert isinstance(key, rsa.RSAPublicKey)
    signed = json.dumps({"url": routed["url"]}, indent=4, sort_keys=True).encode()
    key.verify(base64.b64decode(routed["signature"]), signed, padding.PKCS1v15(), hashes.SHA256())
    path = routed["url"].partition(str(stoker.port))[2]
    for change, expected in (({}, 200), ({"url": "http://elsewhere"}, 401), ({"signature": "AAAA"}, 401)):
        body = {"auth_data": {**routed, **change}, "payload": {"a": 1}}
        with stoker.request("POST", f"{path}/echo", body=json.dumps(body).encode()) as answer:
            assert answer.status == expected
            answer.read()


def test_the_key_of_the_list_works_at_routes_and_workers_and_nowhere_else(
    stoker: Stoker, client_python: Callable[[str], Path], tmp_path: Path, toy: int
) -> None:
    with stoker.request("GET", "/vast/api/v0/endptjobs/") as answer:
        [shown] = [each for each in json.loads(answer.read())["results"] if each["id"] == toy]
    key = shown["api_key"]
    assert key != stoker.key
    status, routed = stoker.engine("/route/", {"endpoint": "toy", "request_idx": 0}, key=key)
    assert (status, "url" in routed) == (200, True)
    for path, body in (("/get_endpoint_logs/", {"id": toy}), ("/update_workers/", {"workergroup_id": toy * 1_000 + 1})):
        assert stoker.engine(path, body, key=key)[0] == 403
    with opened(client_python(CLIENT), tmp_path, stoker, key="sk-wrong") as client:
        with pytest.raises(Raised, match="Invalid user key"):
            client.sdk("show_endpoints")
        with pytest.raises(Raised, match="401"):
            client.serverless("get_endpoint", "toy")


def test_both_sdks_make_change_and_delete(stoker: Stoker, client: Client) -> None:
    sdk = client.sdk
    id = sdk("create_endpoint", endpoint_name="both", cold_workers=0, max_workers=3, min_load=0)["result"]
    template = stoker.template("both", TOY)
    group = sdk("create_workergroup", endpoint_id=id, template_hash=template)["id"]
    [shown] = [each for each in sdk("show_workergroups") if each["id"] == group]
    assert (shown["endpoint_name"], shown["test_workers"], shown["max_workers"]) == ("both", 3, 3)
    sdk("update_endpoint", id, max_workers=2, target_util=0.5)
    [shown] = [each for each in sdk("show_endpoints") if each["id"] == id]
    assert (shown["max_workers"], shown["target_util"], shown["min_load"]) == (2, 0.5, 0.0)
    sdk("update_workergroup", group, endpoint_id=id, gpu_ram=16)
    assert set(sdk("get_endpt_logs", id)) >= {"info0", "info1", "trace", "debug"}
    assert set(sdk("get_wrkgrp_logs", group)) >= {"info0", "info1", "trace", "debug"}
    # Some are started to measure what they can do, though nobody asks for any.
    assert until(lambda: sdk("get_endpoint_workers", id), what="one is started")[0]["id"] > 0
    assert client.serverless("update_workers", group)["workers_to_update"] > 0
    assert sdk("update_workers", group, cancel=True)["cancelled"] is True
    sdk("delete_workergroup", group)
    sdk("delete_endpoint", id)
    for method, number in (("delete_endpoint", id), ("delete_workergroup", group), ("get_endpoint_workers", id)):
        with pytest.raises(Raised, match=r"not found|No workergroup"):
            sdk(method, number)


def test_a_plain_model_is_called_by_openais_path_with_v1_or_without(stoker: Stoker, client: Client) -> None:
    # One of Stoker's own templates, named as such.
    stoker.api("POST", "/templates", {"name": "plain", "spec": {"launch": {"model": "smollm2"}}})
    call = client.serverless
    call("create_endpoint", endpoint_name="plain text", cold_workers=0, max_workers=1)
    call("add_workergroup", "plain text", "plain")
    chat = {"model": "ignored", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    for path in ("/openai/plain%20text/v1/chat/completions", "/openai/plain-text/chat/completions"):
        status, answer = stoker.engine(path, chat, timeout_s=60)
        assert (status, len(answer["choices"])) == (200, 1), answer
    status, routed = stoker.engine("/route/", {"endpoint": "plain text", "request_idx": 0})
    assert (status, routed["cost"]) == (200, 100)
    path = routed["url"].partition("/vast")[2]
    assert stoker.engine(f"{path}/v1/chat/completions", chat, timeout_s=60)[0] == 200
    assert stoker.engine(f"{path}/v1/chat/completions", chat, key="sk-wrong")[0] == 401
    call("delete", "plain text")


def test_what_nobody_has_is_refused_at_once_and_never_polled_for(stoker: Stoker) -> None:
    for body in ({"endpoint": "nobody", "request_idx": 0}, {"endpoint_id": 999_999}):
        status, answer = stoker.engine("/route/", body)
        assert (status, answer["error"]) == (404, "not_found")
    status, answer = stoker.engine("/route/", {"endpoint": "toy"}, key="sk-wrong")
    assert (status, answer["error"], answer["msg"]) == (401, "auth_error", "Invalid user key")
    status, answer = stoker.engine("/worker_status/", {"id": 1, "mtoken": "wrong", "error_msg": "", "url": ""})
    assert (status, answer["error"]) == (401, "auth_error")


def test_each_client_calls_what_the_table_says() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    for row in conformance.ROWS:
        for who in (conformance.SDK, conformance.SERVERLESS):
            if who in row.by:
                assert f'"{row.by[who]}"' in text, (who, row)

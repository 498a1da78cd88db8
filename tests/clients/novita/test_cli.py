"""Novita's own command line against a real Stoker with real workers."""

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
from clients.novita import conformance
from clients.novita.running import IDLE, IMAGE, Cli, Failed, Jobs, Stoker, asked

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def chat(url: str, **headers: str) -> Any:
    """Ask the model at that address for a few words, without a key."""
    parts = urlsplit(url)
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    with closing(HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)) as connection:
        connection.request("POST", f"{parts.path}/v1/chat/completions", json.dumps(body), headers)
        with connection.getresponse() as answer:
            assert answer.status == 200, answer.read()
            return json.loads(answer.read())


def create(cli: Cli, image: str, name: str, *more: str) -> str:
    """A new endpoint by the command line; its id, as that prints it."""
    arguments = ("--image", image, "--port", "8080", "--name", name, *more)
    begin, _, id = cli("serverless", "create", *arguments).strip().partition(": ")
    assert begin == "Endpoint created"
    return id


def test_the_whole_story_by_the_clients_alone(stoker: Stoker, cli: Cli, gpus: Jobs) -> None:
    # The place of a product in the list stands for its id; 300 s of idleness are what it says itself.
    arguments = ("--product-id", "1", "--max-workers", "2", "--env", "A=b", "--command", "--served-model-name tiny")
    id = create(cli, IMAGE, "n1", *arguments)
    found = cli.json("serverless", "get", id)
    assert (found["name"], found["envs"], found["healthy"]["path"]) == ("n1", [{"key": "A", "value": "b"}], "/health")
    assert (found["products"], found["state"]["state"]) == ([{"id": "l40s-48gb"}], "serving")
    # From zero.
    assert len(chat(found["url"])["choices"]) == 1
    host = f"{found['url'].rpartition('/')[2]}.runsync.serverless.novita.ai"
    assert chat(f"http://127.0.0.1:{stoker.port}", Host=host)["choices"]
    found = cli.json("serverless", "get", id)
    assert [worker["state"]["state"] for worker in found["workers"]] == ["running"]
    assert stoker.get(urlsplit(found["workers"][0]["log"]).path)[0] == 200
    # A job whose handler asks that endpoint.
    more = {"type": "async", "envs": [{"key": "MODEL_URL", "value": found["url"]}], "name": "jobs", "appName": "ask"}
    made = cli.api("serverless_create_endpoint", asked("novita-gpus-0.0.1/model:1", **more))["id"]
    job = gpus("run", f"{made}-ask", {"prompt": "Hi"})
    answer = gpus("output", f"{made}-ask", job, 60)
    assert answer["role"] == "assistant", answer
    assert answer["content"]
    assert gpus("status", f"{made}-ask", job) == "COMPLETED"
    stats = cli.api("get", f"/v1/{made}/stats")
    assert (stats["endpoint"], stats["pending"], stats["in_progress"], stats["total_workers"]) == (made, 0, 0, 1)
    assert cli.api("get", f"/v1/{made}-ask/cancel/{job}") == {"id": job, "status": "COMPLETED"}, "it has ended"
    _updated(cli, id)
    _around(cli)
    for each in (id, made):
        assert "deleted" in cli("serverless", "delete", each)
    until(lambda: not {id, made} & {each["id"] for each in cli.json("serverless", "list")["endpoints"]}, what="the end")
    assert conformance.of(conformance.CLI) - cli.driven == set()


def _updated(cli: Cli, id: str) -> None:
    before = cli.json("serverless", "get", id)
    assert "updated" in cli("serverless", "update", id, "--max-workers", "3", "--image", IDLE)
    after = cli.json("serverless", "get", id)
    assert (after["workerConfig"]["maxNum"], after["image"]["image"]) == (3, IDLE)
    # What it leaves out stays.
    for name in ("name", "envs", "healthy", "volumeMounts", "products", "policy"):
        assert after[name] == before[name]


def _around(cli: Cli) -> None:
    assert cli("gpu", "clusters").split()[:2] == ["local", "local"]
    assert "L40S 48GB" in cli("gpu", "products", "--gpu-num", "1")
    assert cli.json("gpu", "cpu-products") == {"data": []}
    stored = cli("storage", "create", "--cluster-id", "local", "--name", "data", "--size", "10").strip().split()[-1]
    assert stored in cli("storage", "list")
    mounts = [{"type": "network", "id": stored, "mountPath": "/data"}]
    more = {"name": "stored", "clusterID": "local", "volumeMounts": mounts}
    id = cli.api("serverless_create_endpoint", asked(IDLE, **more))["id"]
    assert cli.json("serverless", "get", id)["volumeMounts"] == [{**mounts[0], "size": 10}]
    with pytest.raises(Failed, match="NETWORK_STORAGE_IN_USE"):
        cli("storage", "delete", stored)
    cli("serverless", "delete", id)
    until(lambda: "stored" not in cli("serverless", "list"), what="its end")
    assert "deleted" in cli("storage", "delete", stored)
    assert "No storage" in cli("storage", "list")


def test_mistakes_end_it_with_their_reason(stoker: Stoker, cli: Cli, client_python: Callable[[str], Path]) -> None:
    create_it = ("serverless", "create", "--image", IDLE, "--port", "8080", "--product-id")
    for arguments, reason in (
        (("serverless", "get", "missing"), "SERVERLESS_ENDPOINT_NOT_FOUND"),
        (("serverless", "delete", "missing"), "SERVERLESS_ENDPOINT_NOT_FOUND"),
        (("serverless", "create", "--image", IDLE, "--port", "2222", "--product-id", "1"), "VALIDATOR_PARAM"),
        ((*create_it, "none"), "SERVERLESS_PRODUCT_NOT_FOUND"),
        ((*create_it, "1", "--gpu-num", "5"), "INSUFFICIENT_RESOURCE"),
        ((*create_it, "1", "--gpu-num", "9"), "VALIDATOR_PARAM"),
        ((*create_it, "1", "--min-workers", "2"), "VALIDATOR_PARAM"),
        ((*create_it, "1", "--command", "'"), "INVALID_COMMAND_PARAM"),
        (("storage", "create", "--cluster-id", "none", "--name", "d", "--size", "1"), "VALIDATOR_PARAM"),
        (("storage", "delete", "none"), "NETWORK_STORAGE_NOT_FOUND"),
    ):
        with pytest.raises(Failed) as failed:
            cli(*arguments)
        assert f'"reason":"{reason}"' in failed.value.text, arguments
    stranger = Cli(client_python("novita-0.1.0"), stoker.url, "none at all")
    with pytest.raises(Failed, match='"code":401'):
        stranger("serverless", "list")
    reader = Cli(client_python("novita-0.1.0"), stoker.url, _reader(stoker))
    # What an earlier test deleted may be on its way out.
    both = (reader, cli)
    until(lambda: len({each.json("serverless", "list")["total"] for each in both}) == 1, what="the same for both")
    with pytest.raises(Failed, match='"reason":"FORBIDDEN"'):
        reader(*create_it, "1")


def _reader(stoker: Stoker) -> str:
    made = stoker.run("keys", "create", "reader", "--scope", "read")
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()

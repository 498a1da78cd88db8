"""Yotta's own command line and package, unmodified, drive a real model from create to gone: by requests, by tasks."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from acceptance.installation import until
from clients.yotta.running import IMAGE, RESOURCES, Cli, Receiver, Sdk, Stoker

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def test_a_queue_from_create_to_the_webhook_of_its_task(cli: Cli, sdk: Sdk, receiver: Receiver) -> None:
    made = cli(
        *("serverless", "create", "--name", "story-queue", "--image", IMAGE, "--resources", json.dumps(RESOURCES)),
        *("--workers", "1", "--service-mode", "QUEUE", "--volume", "20", "--expose-port", "8000", "--env", "A=b"),
    )
    id = made["id"]
    assert (made["serviceMode"], made["status"], made["domain"]) == ("QUEUE", "INITIALIZING", None)
    until(lambda: cli("serverless", "get", id)["status"] == "RUNNING", within_s=60, what="it runs")
    [worker] = cli("serverless", "workers", id, "--status", "RUNNING")
    assert (worker["gpuType"], worker["gpuCount"], worker["region"]) == ("NVIDIA_L40S_48G", 1, "local")
    submitted = cli(
        *("tasks", "create", "--endpoint-id", id, "--worker-port", "8000", "--process-uri", "v1/chat/completions"),
        *("--input", json.dumps(CHAT), "--task-id", "a_1", "--webhook", receiver.url, "--webhook-auth-key", "kk"),
    )
    assert submitted == {"taskId": "a_1"}
    until(lambda: receiver.got, within_s=30, what="the webhook came")
    [(headers, told)] = receiver.got
    assert (headers["x-api-key"], headers["content-type"]) == ("kk", "application/json")
    sdk.whole("SkywalkerTaskApi", "validate_notify_payload", payload=told)
    assert (told["user_task_id"], told["endpoint_id"], told["status"]) == ("a_1", id, "Success")
    assert (told["success"], told["retry_count"]) == (True, 1)
    assert told["result"]["choices"][0]["message"]["content"]
    task = until(lambda: _delivered(cli, id), within_s=10, what="it is delivered")
    assert (task["status"], task["input"], task["output"]) == ("SUCCESS", CHAT, told["result"])
    assert (task["endpointId"], task["deliveryAttempts"], task["error"]) == (int(id), 1, None)
    assert task["workerUrl"].endswith("/v1/chat/completions")
    _its_tasks(cli, sdk, id)
    cli("serverless", "delete", id)
    until(lambda: id not in [each["id"] for each in cli("serverless", "list")], within_s=30, what="it is gone")
    assert "14000" in cli.refused("serverless", "get", id)


def _delivered(cli: Cli, id: str) -> Any:
    task = cli("tasks", "get", "--endpoint-id", id, "a_1")
    return task if task["deliveryStatus"] == "SUCCESS" else None


def _its_tasks(cli: Cli, sdk: Sdk, id: str) -> None:
    again = cli(
        *("tasks", "create", "--endpoint-id", id, "--worker-port", "8000", "--process-uri", "x"),
        *("--input", '"other"', "--task-id", "a_1"),
    )
    assert again == {"taskId": "a_1"}, "a repeated id answers success and makes no second task"
    wrong = sdk("SkywalkerTaskApi", "create_task", endpoint_id=id, worker_port=8000, process_uri="/none", input=[1, 2])[
        "taskId"
    ]
    assert wrong.isalnum()

    def failed() -> bool:
        task = sdk("SkywalkerTaskApi", "get_task", endpoint_id=id, task_id=wrong)
        return bool(task["status"] == "FAILED" and "404" in task["error"])

    until(failed, within_s=20, what="an error of the worker is the end of a task")
    page = cli("tasks", "list", "--endpoint-id", id, "--status", "success", "--page", "1", "--page-size", "20")
    assert ([each["taskId"] for each in page["items"]], page["total"]) == (["a_1"], 1)
    page = sdk("SkywalkerTaskApi", "list_tasks", endpoint_id=id, page=2, page_size=1)
    assert (page["items"][0]["taskId"], page["pages"], page["pagination"]["totalCount"]) == ("a_1", 2, 2)
    assert cli("tasks", "count", "--endpoint-id", id)["processing"] == 0


def test_requests_to_a_balanced_endpoint_are_answered_by_the_model(stoker: Stoker, sdk: Sdk) -> None:
    made = sdk(
        *("ElasticApi", "create_deployment"),
        name="story-alb",
        image=IMAGE,
        resources=RESOURCES,
        workers=1,
        service_mode="ALB",
        container_volume_in_gb=20,
        min_single_card_vram_in_gb=24,
        min_single_card_vcpu=4,
        min_single_card_ram_in_gb=16,
        environment_vars=[{"key": "A", "value": "b"}],
        expose={"port": 8000, "protocol": "HTTP"},
    )
    status, answer = _chat(made["domain"], stoker.key)
    assert (status, len(answer.get("choices", []))) == (200, 1), answer
    assert _chat(made["domain"], "sk-none")[0] == 401
    assert sdk("ElasticApi", "get_deployment_detail", deployment_id=made["id"])["runningWorkers"] == 1
    sdk("ElasticApi", "delete_deployment", deployment_id=made["id"])


def _chat(url: str, key: str) -> tuple[int, Any]:
    """Ask the model at that address for a few words, as Yotta's users do."""
    parts = urlsplit(url)
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    with closing(HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)) as connection:
        connection.request("POST", f"{parts.path}/v1/chat/completions", json.dumps(CHAT), headers)
        with connection.getresponse() as answer:
            return answer.status, json.loads(answer.read())

"""Yotta's own command line and package, unmodified, drive a real model from create to gone: by tasks, by requests."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from acceptance.installation import until
from clients.yotta import conformance
from clients.yotta.running import IDLE, IMAGE, RESOURCES, Cli, Receiver, Sdk, Stoker

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]
CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
QUEUES, ENDPOINTS, LOGINS = "SkywalkerTaskApi", "ElasticApi", "CredentialApi"


def test_a_queue_by_the_command_line_alone_down_to_the_webhook(cli: Cli, sdk: Sdk, receiver: Receiver) -> None:
    made = cli(
        *("serverless", "create", "--name", "story-queue", "--image", IMAGE, "--resources", json.dumps(RESOURCES)),
        *("--workers", "1", "--service-mode", "QUEUE", "--volume", "20", "--expose-port", "8000", "--env", "A=b"),
    )
    id = made["id"]
    assert (made["serviceMode"], made["status"], made["domain"]) == ("QUEUE", "INITIALIZING", None)
    # The package asks again and again at less cost.
    _reaches(sdk, id, "RUNNING", workers=1)
    assert cli("serverless", "get", id)["status"] == "RUNNING"
    [worker] = cli("serverless", "workers", id, "--status", "RUNNING")
    assert (worker["gpuType"], worker["gpuCount"], worker["region"]) == ("NVIDIA_L40S_48G", 1, "local")
    submitted = cli(
        *("tasks", "create", "--endpoint-id", id, "--worker-port", "8000", "--process-uri", "v1/chat/completions"),
        *("--input", json.dumps(CHAT), "--task-id", "a_1", "--webhook", receiver.url, "--webhook-auth-key", "kk"),
    )
    assert submitted == {"taskId": "a_1"}
    until(lambda: receiver.got, what="the webhook came")
    [(headers, told)] = receiver.got
    assert (headers["x-api-key"], headers["content-type"]) == ("kk", "application/json")
    sdk.whole(QUEUES, "validate_notify_payload", payload=told)
    assert (told["user_task_id"], told["endpoint_id"], told["status"]) == ("a_1", id, "Success")
    assert (told["success"], told["retry_count"]) == (True, 1)
    assert told["result"]["choices"][0]["message"]["content"]
    until(lambda: _delivered(sdk, id), what="it is delivered")
    task = cli("tasks", "get", "--endpoint-id", id, "a_1")
    assert (task["status"], task["input"], task["output"]) == ("SUCCESS", CHAT, told["result"])
    assert (task["endpointId"], task["deliveryAttempts"], task["error"]) == (int(id), 1, None)
    assert task["workerUrl"].endswith("/v1/chat/completions")
    _more_tasks(cli, id, receiver)
    cli("serverless", "delete", id)
    until(lambda: not sdk(ENDPOINTS, "get_deployments"), what="it is gone")
    assert cli.refused("serverless", "get", id).startswith("(404, 14000, 'Endpoint not found'")
    _idle_by_the_command_line(cli, sdk)
    assert conformance.of(conformance.CLI) - cli.driven == set()


def _delivered(sdk: Sdk, id: str) -> bool:
    return bool(sdk(QUEUES, "get_task", endpoint_id=id, task_id="a_1")["deliveryStatus"] == "SUCCESS")


def _more_tasks(cli: Cli, id: str, receiver: Receiver) -> None:
    to = ("tasks", "create", "--endpoint-id", id, "--worker-port", "8000", "--process-uri", "none")
    assert cli(*to, "--input", '"other"', "--task-id", "a_1") == {"taskId": "a_1"}, "which makes no second task"
    failed = cli(*to, "--input", "[1, 2]", "--webhook", receiver.url)["taskId"]
    assert failed.isalnum()
    until(lambda: len(receiver.got) == 2, what="an error of the worker is the end of a task")
    headers, told = receiver.got[1]
    assert "x-api-key" not in headers
    assert (told["user_task_id"], told["status"], told["success"]) == (failed, "Failed", False)
    assert "404" in told["failed_reason"]
    page = cli("tasks", "list", "--endpoint-id", id, "--status", "success", "--page", "1", "--page-size", "20")
    assert ([each["taskId"] for each in page["items"]], page["total"]) == (["a_1"], 1)
    page = cli("tasks", "list", "--endpoint-id", id, "--page", "2", "--page-size", "1")
    assert (page["items"][0]["taskId"], page["pages"], page["pagination"]["totalCount"]) == ("a_1", 2, 2)
    assert cli("tasks", "count", "--endpoint-id", id)["processing"] == 0


def _idle_by_the_command_line(cli: Cli, sdk: Sdk) -> None:
    """Everything that a create can say, and what else there is, of workers that are none too busy."""
    types = {each["gpuType"]: each["regions"] for each in cli("gpus", "list")}
    assert [each["region"] for each in types["NVIDIA_L40S_48G"]] == ["local"]
    login = cli("credentials", "create", "--name", "a", "--type", "DOCKER_HUB", "--username", "u", "--password", "p")
    id = str(login["id"])
    assert [each["id"] for each in cli("credentials", "list")] == [login["id"]]
    assert cli("credentials", "get", id) == login
    assert cli("credentials", "update", id, "--password", "q")["name"] == "a"
    made = cli(
        *("serverless", "create", "--name", "ep1", "--image", "img", "--resources", json.dumps(RESOURCES)),
        *("--workers", "1", "--service-mode", "QUEUE", "--volume", "20", "--env", "A=b", "--expose-port", "8000"),
        *("--expose-protocol", "http", "--webhook", "http://127.0.0.1/h", "--init-cmd", "x", "--credential-id", id),
        *("--image-registry", "https://r"),
    )
    assert (made["image"], made["imageRegistry"], made["initializationCommand"]) == ("img", "https://r", "x")
    assert (made["expose"], made["webhook"]) == ({"port": 8000, "protocol": "http"}, "http://127.0.0.1/h")
    assert made["environmentVars"] == made["envVars"] == [{"key": "A", "value": "b"}]
    assert (made["resources"], made["totalWorkers"], made["containerVolumeInGb"]) == (RESOURCES, 1, 20)
    assert "(409, 12001, " in cli.refused("credentials", "delete", id), "it is in use"
    cli("serverless", "scale", made["id"], "--workers", "0")
    assert cli("serverless", "get", made["id"])["totalWorkers"] == 0
    running = cli("serverless", "list", "--status", "RUNNING", "--status", "STOPPED")
    assert made["id"] in [each["id"] for each in running], "at none it runs"
    cli("serverless", "stop", made["id"])
    _reaches(sdk, made["id"], "STOPPED")
    task = ("--endpoint-id", made["id"], "--worker-port", "8000", "--process-uri", "run", "--input", '{"p": 1}')
    assert "(409, 24000, 'Serverless unavailable'" in cli.refused("tasks", "create", *task)
    cli("serverless", "start", made["id"])
    cli("serverless", "delete", made["id"])
    until(lambda: not sdk(ENDPOINTS, "get_deployments"), what="it is gone")
    cli("credentials", "delete", id)


def test_a_balanced_endpoint_by_the_package_alone_through_all_its_states(stoker: Stoker, sdk: Sdk) -> None:
    made = sdk(
        *(ENDPOINTS, "create_deployment"),
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
    id = made["id"]
    _reaches(sdk, id, "RUNNING", workers=1)
    status, answer = _chat(made["domain"], stoker.key)
    assert (status, len(answer.get("choices", []))) == (200, 1), answer
    assert _chat(made["domain"], "sk-none")[0] == 401
    shown = sdk(ENDPOINTS, "get_deployment_detail", deployment_id=id)
    assert (shown["minSingleCardVramInGb"], shown["serviceMode"], shown["domain"]) == (24, "ALB", made["domain"])
    [worker] = sdk(ENDPOINTS, "get_workers", deployment_id=id)
    assert (worker["singleCardVcpu"], worker["singleCardRamInGb"], worker["id"]) == (4, 16, worker["workerId"])
    _its_logs(sdk, id, worker["id"])
    sdk(ENDPOINTS, "scale_workers", deployment_id=id, workers=2)
    _reaches(sdk, id, "RUNNING", workers=2)
    sdk("ElasticApi", "stop_deployment", deployment_id=id)
    _reaches(sdk, id, "STOPPED")
    assert [each["id"] for each in sdk(ENDPOINTS, "get_deployments", status_list=["STOPPED"])] == [id]
    changed = sdk(
        *(ENDPOINTS, "update_deployment"),
        deployment_id=id,
        name="story-alb2",
        resources=RESOURCES,
        workers=1,
        container_volume_in_gb=30,
        credential_id=None,
        webhook=None,
        min_single_card_vcpu=None,
        environment_vars=[{"key": "A", "value": "c"}],
    )
    assert (changed["name"], changed["containerVolumeInGb"], changed["totalWorkers"]) == ("story-alb2", 30, 1)
    assert (changed["minSingleCardVcpu"], changed["minSingleCardRamInGb"]) == (None, 16)
    assert changed["environmentVars"] == [{"key": "A", "value": "c"}]
    sdk(ENDPOINTS, "start_deployment", deployment_id=id)
    _reaches(sdk, id, "RUNNING", workers=1)
    assert _chat(made["domain"], stoker.key)[0] == 200
    assert worker["id"] not in [each["id"] for each in sdk(ENDPOINTS, "get_workers", deployment_id=id)]
    gone = sdk(ENDPOINTS, "get_workers", deployment_id=id, status_list=["TERMINATED"])
    assert worker["id"] in [each["id"] for each in gone]
    sdk(ENDPOINTS, "delete_deployment", deployment_id=id)
    until(lambda: not sdk(ENDPOINTS, "get_deployments"), what="it is gone")
    _the_rest_by_the_package(sdk)
    assert (conformance.of(conformance.SDK) | conformance.of(conformance.BY_PATH[0])) - sdk.driven == set()


def _reaches(sdk: Sdk, id: str, status: str, *, workers: int = 0) -> None:
    def there() -> bool:
        shown = sdk(ENDPOINTS, "get_deployment_detail", deployment_id=id)
        return (shown["status"], shown["runningWorkers"]) == (status, workers)

    until(there, what=f"it is {status} with {workers} workers")


def _its_logs(sdk: Sdk, id: str, worker: str) -> None:
    path = f"/v2/serverless/{id}/workers/{worker}/logs"

    def begin() -> Any:
        found = sdk(ENDPOINTS, "http_get", url_path=path, payload={"pageSize": 1})
        return found if found["hasMore"] else None

    first = until(begin, what="more than a line of it")
    assert len(first["logs"]) == 1
    after = {"searchAfterTime": first["nextSearchAfterTime"], "searchAfterOffset": first["nextSearchAfterOffset"]}
    second = sdk(ENDPOINTS, "http_get", url_path=path, payload={"pageSize": 1, **after})
    assert second["logs"][0]["offset"] > first["logs"][0]["offset"]
    back = {"searchAfterOffset": second["nextSearchAfterOffset"], "direction": "Backward"}
    assert sdk(ENDPOINTS, "http_get", url_path=path, payload=back)["logs"] == first["logs"]


def _the_rest_by_the_package(sdk: Sdk) -> None:
    assert "NVIDIA_L40S_48G" in [each["gpuType"] for each in sdk("GpuApi", "get_gpus")]
    path = "/api/v2/resource/gpu/list"
    single = sdk("GpuApi", "http_post", url_path=path, payload={"queryType": 1, "gpuTypes": ["NVIDIA_L40S_48G"]})
    assert [(each["gpuCount"], each["singleCardVramInGb"]) for each in single] == [(1, 48)]
    assert [each["gpuCount"] for each in sdk("GpuApi", "http_post", url_path=path)] == [2, 3, 4]
    east = {"region": "east", "gpuType": "NVIDIA_L4_24G", "gpuCount": 1}
    both = sdk(
        *(ENDPOINTS, "create_deployment"),
        name="two-regions",
        image=IDLE,
        resources=[east, *RESOURCES],
        workers=2,
        service_mode="CUSTOM",
        container_volume_in_gb=20,
    )
    until(lambda: _regions(sdk, both["id"]) == ["east", "local"], what="what has no room is elsewhere")
    sdk(ENDPOINTS, "scale_workers", deployment_id=both["id"], workers=1)
    until(lambda: _regions(sdk, both["id"]) == ["east"], what="one is left where it was tried first")
    sdk(ENDPOINTS, "delete_deployment", deployment_id=both["id"])
    login = sdk(LOGINS, "create_credential", name="a", type="ECR", username="u", password="p")
    assert sdk(LOGINS, "get_credential", credential_id=login["id"]) == login == sdk(LOGINS, "get_credentials")[0]
    assert sdk(LOGINS, "update_credential", credential_id=login["id"], name="b")["name"] == "b"
    sdk(LOGINS, "delete_credential", credential_id=login["id"])
    made = sdk(
        *(ENDPOINTS, "create_deployment"),
        name="by-package",
        image=IDLE,
        resources=RESOURCES,
        workers=1,
        service_mode="QUEUE",
        container_volume_in_gb=20,
    )
    at = {"endpoint_id": made["id"]}
    task = sdk(QUEUES, "create_task", **at, worker_port=8000, process_uri="/run", input=[1, 2], headers={"X-A": "b"})[
        "taskId"
    ]
    assert task.isalnum(), "which the webhook's validator wants"
    shown = sdk(QUEUES, "get_task", **at, task_id=task)
    assert (shown["status"], shown["input"], shown["headers"]) == ("PROCESSING", [1, 2], {"X-A": "b"})
    assert (shown["output"], shown["workerUrl"], shown["deliveryStatus"]) == (None, None, "INIT")
    assert sdk(QUEUES, "get_processing_count", **at) == {
        "processing": 1,
        "total": 1,
        "delivered": 0,
        "success": 0,
        "failed": 0,
    }
    assert [each["taskId"] for each in sdk(QUEUES, "list_tasks", **at, status="PROCESSING")["items"]] == [task]
    assert sdk(ENDPOINTS, "http_put", url_path=f"/v2/serverless/{made['id']}/workers/0") is True
    sdk(ENDPOINTS, "delete_deployment", deployment_id=made["id"])
    until(lambda: not sdk(ENDPOINTS, "get_deployments"), what="it is gone")


def _regions(sdk: Sdk, id: str) -> list[str]:
    return sorted(each["region"] for each in sdk(ENDPOINTS, "get_workers", deployment_id=id))


def _chat(url: str, key: str) -> tuple[int, Any]:
    """Ask the model at that address for a few words, as Yotta's users do."""
    parts = urlsplit(url)
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    with closing(HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)) as connection:
        connection.request("POST", f"{parts.path}/v1/chat/completions", json.dumps(CHAT), headers)
        with connection.getresponse() as answer:
            return answer.status, json.loads(answer.read())

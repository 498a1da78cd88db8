"""Mistakes are told to Yotta's own clients as Yotta tells of them: code, text and status; the command line exits 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.yotta.running import IDLE, RESOURCES, Cli, Raised, Sdk, Stoker

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]
FINE: dict[str, Any] = {
    "name": "mistake",
    "image": IDLE,
    "resources": RESOURCES,
    "workers": 1,
    "service_mode": "ALB",
    "container_volume_in_gb": 20,
}
INVALID = (400, 10001, "Invalid request parameters")
UNKNOWN = (401, 40101, "Authentication context not found")
NO_ENDPOINT = (404, 14000, "Endpoint not found")


def raised(call: Callable[[], object]) -> tuple[int | None, int | None, str]:
    """Status, code and text of what the package raises."""
    with pytest.raises(Raised) as exc:
        call()
    assert exc.value.kind == "ClientError", exc.value
    return exc.value.status, exc.value.code, exc.value.text


def test_the_package_raises_what_yotta_would_have_it_raise(sdk: Sdk) -> None:
    def create(**wrong: Any) -> Any:
        return sdk("ElasticApi", "create_deployment", **{**FINE, **wrong})

    card = RESOURCES[0]
    for wrong in (
        {"name": "1starts-with-a-digit"},
        {"name": "has more than twenty letters"},
        {"service_mode": "alb"},
        {"container_volume_in_gb": 19},
        {"image": "registry.test/nothing-stands-in-for-it:1"},
        {"resources": [{**card, "gpuType": "NVIDIA_NONE_8G"}]},
        {"resources": [{**card, "region": "nowhere"}]},
        {"resources": [{**card, "gpuCount": 9}]},
        {"resources": [card, {**card, "region": "local", "gpuCount": 2}]},
        {"min_single_card_vram_in_gb": 96},
        {"credential_id": 999},
        {"webhook": "ftp://example.com"},
        {"expose": {"port": 0, "protocol": "http"}},
        {"expose": {"port": 22, "protocol": "ssh"}},
        {"environment_vars": [{"key": "A", "value": "1"}, {"key": "A", "value": "2"}]},
    ):
        assert raised(lambda: create(**wrong)) == INVALID, wrong  # noqa: B023
    with pytest.raises(Raised) as exc:
        create(name="1", workers=2_000)
    assert [each["pointer"] for each in exc.value.data["errors"]] == ["/name", "/workers"]
    # Those of other tests may be on their way out.
    assert "mistake" not in [each["name"] for each in sdk("ElasticApi", "get_deployments")], "nothing was made"
    made = create()
    id = made["id"]
    assert raised(create) == INVALID, "its name is taken"
    task = {"worker_port": 8000, "process_uri": "/run", "input": {"a": 1}}
    submit = ("SkywalkerTaskApi", "create_task")
    not_a_task = (400, 10001, "Invalid request or non-QUEUE endpoint")
    no_serverless = (404, 24001, "Serverless does not exist")
    assert raised(lambda: sdk(*submit, endpoint_id=id, **task)) == not_a_task
    assert raised(lambda: sdk("SkywalkerTaskApi", "get_processing_count", endpoint_id=id)) == no_serverless
    assert raised(lambda: sdk(*submit, endpoint_id=999, **task)) == NO_ENDPOINT
    patch = {**{k: FINE[k] for k in ("name", "resources", "workers")}, "container_volume_in_gb": 30}
    not_allowed = (409, 24002, "Elastic action not allowed")
    assert raised(lambda: sdk("ElasticApi", "update_deployment", deployment_id=id, **patch)) == not_allowed
    path = f"/v2/serverless/{id}/workers"
    for query in ({"count": -1}, {"count": "x"}, {}):
        assert raised(lambda: sdk("ElasticApi", "http_put", url_path=path, payload=query)) == INVALID, query  # noqa: B023
    logs = f"{path}/999/logs"
    no_record = (404, 10007, "Record does not exist")
    assert raised(lambda: sdk("ElasticApi", "http_get", url_path=logs)) == no_record
    sdk("ElasticApi", "delete_deployment", deployment_id=id)
    assert raised(lambda: sdk("ElasticApi", "delete_deployment", deployment_id=id)) == NO_ENDPOINT


def test_tasks_that_make_no_sense_are_refused_and_unknown_ones_not_found(sdk: Sdk) -> None:
    made = sdk("ElasticApi", "create_deployment", **{**FINE, "name": "queue", "service_mode": "QUEUE"})
    path = f"/v2/serverless/{made['id']}/tasks"
    for wrong in (
        {},
        {"input": None},
        {"input": ""},
        {"input": 1, "workerPort": 70_000},
        {"input": 1, "workerPort": 9_000},
        {"input": 1, "processUri": "with a blank"},
        {"input": 1, "taskId": "with-hyphens"},
        {"input": 1, "taskId": "count"},
        {"input": 1, "webhook": "http://10.0.0.1/not-allowed-here"},
        {"input": 1, "webhookAuthKey": "line\nbreak"},
        {"input": 1, "headers": {"a b": "c"}},
    ):
        told = raised(lambda: sdk("SkywalkerTaskApi", "http_post", url_path=path, payload=wrong))  # noqa: B023
        assert told == (400, 10001, "Invalid request or non-QUEUE endpoint"), wrong
    no_task = (404, 24011, "Task does not exist")
    assert raised(lambda: sdk("SkywalkerTaskApi", "get_task", endpoint_id=made["id"], task_id="none")) == no_task
    assert sdk("SkywalkerTaskApi", "get_processing_count", endpoint_id=made["id"])["total"] == 0
    sdk("ElasticApi", "delete_deployment", deployment_id=made["id"])


def test_the_command_line_says_so_and_exits_with_1(stoker: Stoker, cli: Cli, python: Path) -> None:
    assert cli.refused("serverless", "get", "999999").startswith(f"({', '.join(map(repr, NO_ENDPOINT))}, ")
    create = (
        *("serverless", "create", "--image", IDLE, "--workers", "1", "--service-mode", "QUEUE", "--volume", "20"),
        *("--resources", json.dumps(RESOURCES)),
    )
    assert cli.refused(*create, "--name", "9").startswith(f"({', '.join(map(repr, INVALID))}, ")
    unknown = f"({', '.join(map(repr, UNKNOWN))}, "
    for key in ("sk-none", ""):
        for command in (("serverless", "list"), ("gpus", "list"), ("credentials", "list")):
            assert Cli(python, stoker.url, key).refused(*command).startswith(unknown)
    reader = Cli(python, stoker.url, stoker.limited("read"))
    assert reader("serverless", "list", "--status", "FAILED") == []
    assert reader.refused(*create, "--name", "e").startswith(unknown)


def test_an_address_that_ends_with_a_slash_will_do(stoker: Stoker, python: Path) -> None:
    assert Cli(python, f"{stoker.url}/", stoker.key)("serverless", "list", "--status", "FAILED") == []

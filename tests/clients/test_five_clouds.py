"""One endpoint, made natively, seen and changed by the unmodified clients of all five clouds until it is gone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from acceptance.installation import WORKER, until
from clients.exoscale import running as exoscale
from clients.gcore import running as gcore
from clients.novita import running as novita
from clients.vast import running as vast
from clients.yotta import running as yotta

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

IMAGE, PORT, NAME = "registry.test/echo:1", 8000, "shared"
DEPLOYMENTS = "cloud.inference.deployments"
ELASTIC = "ElasticApi"


@dataclass
class Clouds:
    """A Stoker, and a client of each cloud with the same key."""

    stoker: exoscale.Stoker
    exoscale: exoscale.Client
    gcore: gcore.Client
    vast: vast.Client
    yotta: yotta.Sdk
    novita: novita.Cli

    def names(self) -> dict[str, list[str]]:
        """Of the endpoints that each lists."""
        return {
            "exoscale": [each["name"] for each in self.exoscale("list_deployments")["deployments"]],
            "gcore": [each["name"] for each in self.gcore(f"{DEPLOYMENTS}.list.all")],
            "vast": [each["endpoint_name"] for each in self.vast.sdk("show_endpoints")],
            "yotta": [each["name"] for each in self.yotta(ELASTIC, "get_deployments")],
            "novita": [each["name"] for each in self.novita.json("serverless", "list")["endpoints"]],
        }


@pytest.fixture
def clouds(tmp_path: Path, client_python: Callable[[str], Path]) -> Iterator[Clouds]:
    made = exoscale.Stoker(tmp_path / "stoker")
    made.environ |= {
        "STOKER_IMAGES": json.dumps({IMAGE: {"command": [sys.executable, str(WORKER), "{port}"]}}),
        "STOKER_VIRTUAL_GPUS": "[{family: l40s, count: 4}]",
    }
    with ExitStack() as stack:
        stack.callback(made.close)
        made.up()
        base, key = f"http://127.0.0.1:{made.port}", made.key
        yield Clouds(
            stoker=made,
            exoscale=stack.enter_context(exoscale.opened(client_python("exoscale-0.16.4"), made)),
            gcore=stack.enter_context(
                closing(gcore.Client(client_python("gcore-0.59.0"), "0.59.0", "sync", f"{base}/gcore", key))
            ),
            vast=stack.enter_context(
                closing(vast.Client(client_python(vast.CLIENT), tmp_path / "home", f"{base}/vast", key))
            ),
            yotta=stack.enter_context(closing(yotta.Sdk(client_python("yottaml-0.2.0"), f"{base}/yotta", key))),
            novita=novita.Cli(client_python("novita-0.1.0"), f"{base}/novita", key),
        )


def test_an_endpoint_made_here_is_the_same_one_to_all_five_clouds(clouds: Clouds) -> None:
    made = clouds.stoker.create(
        NAME,
        low=1,
        launch={"image": IMAGE, "port": PORT},
        pools=[{"hardware": {"gpu_count": 1, "gpu_family": "l40s"}, "bounds": {"min": 1, "max": 1}}],
        mode="mixed",
        queue={"path": "/task"},
    )

    def native() -> Any:
        return clouds.stoker.api("GET", f"/endpoints/{NAME}")

    assert clouds.names() == {cloud: [NAME] for cloud in ("exoscale", "gcore", "vast", "yotta", "novita")}
    until(lambda: clouds.stoker.ready_workers(NAME), what="its worker is ready")

    scaled = clouds.exoscale("scale_deployment", id=made["id"], replicas=2)
    assert clouds.exoscale.ended(scaled)["state"] == "success"
    assert clouds.yotta(ELASTIC, "get_deployment_detail", deployment_id=str(made["number"]))["totalWorkers"] == 2
    assert len(clouds.vast.serverless("get_workers", NAME)) == 2

    clouds.gcore(f"{DEPLOYMENTS}.update", deployment_name=NAME, envs={"CHANGED": "by-gcore"})
    assert native()["spec"]["launch"]["env"] == {"CHANGED": "by-gcore"}
    until(lambda: _renewed(clouds), what="its workers run with that")

    answer = clouds.vast.serverless("request", NAME, "/called", {"by": "vast"})
    assert (answer["ok"], answer["response"]["payload"]) == (True, {"by": "vast"})

    task = _tasked(clouds, str(made["number"]))
    assert task["output"] == {"by": "yotta"}

    assert "deleted" in clouds.novita("serverless", "delete", str(made["number"]))
    until(lambda: not any(clouds.names().values()), what="it is gone in all of them")
    assert clouds.stoker.api("GET", "/endpoints")["items"] == []


def _renewed(clouds: Clouds) -> bool:
    """Do all ready workers, two again, run the last revision?"""
    found = clouds.stoker.ready_workers(NAME)
    revision = clouds.stoker.api("GET", f"/endpoints/{NAME}")["revision"]
    return len(found) == 2 and all(worker["revision"] == revision for worker in found)


def _tasked(clouds: Clouds, id: str) -> Any:
    """A task of Yotta's, when it has succeeded."""
    made = clouds.yotta(
        "SkywalkerTaskApi", "create_task", endpoint_id=id, input={"by": "yotta"}, worker_port=PORT, process_uri="/task"
    )

    def ended() -> Any:
        task = clouds.yotta("SkywalkerTaskApi", "get_task", endpoint_id=id, task_id=made["taskId"])
        return task if task["status"] == "SUCCESS" else None

    return until(ended, what="the task has succeeded")

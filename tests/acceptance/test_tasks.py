"""Tasks on a real Stoker: kept, attempted, told of, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from acceptance.installation import Installation, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def test_a_task_wakes_an_endpoint_from_zero_and_its_result_is_kept(installation: Installation) -> None:
    installation.up()
    installation.create(low=0, high=2, mode="queue")
    assert installation.get("/e/e/who")[0] == 409, "an endpoint of mode queue takes no requests"
    made = installation.api("POST", "/endpoints/e/tasks", {"id": "one", "input": {"a": [1]}, "path": "/echo"})
    assert (made["id"], made["state"], made["created"]) == ("one", "queued", True)
    ended = until(lambda: _ended(installation, "one"), what="the end of the task")
    assert (ended["state"], ended["attempts"], ended["status"]) == ("succeeded", 1, 200)
    [attempt] = ended["tried"]
    [worker] = installation.ready_workers()
    assert attempt["worker"] == worker["id"]
    status, body = installation.get("/api/v1/endpoints/e/tasks/one/result")
    assert (status, body) == (200, b'{"a":[1]}')
    again = installation.api("POST", "/endpoints/e/tasks", {"id": "one", "input": {"a": [1]}, "path": "/echo"})
    assert (again["created"], again["state"]) == (False, "succeeded")


def test_a_killed_control_goes_on_with_what_gateways_have_and_costs_no_attempt(
    installation: Installation, tmp_path: Path
) -> None:
    installation.up()
    # One worker, of which it is asked how much it had at once.
    installation.create(low=1, high=1, mode="mixed", slots=2)
    until(installation.ready_workers, what="a worker")
    go = tmp_path / "go"
    for number in range(4):
        installation.api("POST", "/endpoints/e/tasks", {"id": f"t{number}", "method": "GET", "path": f"/held?by={go}"})
    until(lambda: installation.api("GET", "/endpoints/e/queue")["running"] == 2, what="two running tasks")
    os.kill(installation.role("stoker.serving"), signal.SIGKILL)
    until(installation.ready, what="the next control")
    go.touch()
    for number in range(4):
        ended = until(lambda n=number: _ended(installation, f"t{n}"), what=f"task {number}")  # type: ignore[misc]
        assert (ended["state"], ended["attempts"]) == ("succeeded", 1)
    assert int(installation.get("/e/e/peak")[1].split(b":")[1].strip(b" }")) == 2


def test_a_running_task_is_cancelled_and_its_worker_is_free_again(installation: Installation) -> None:
    installation.up()
    installation.create(low=1, mode="mixed", slots=1)
    until(installation.ready_workers, what="a worker")
    installation.api("POST", "/endpoints/e/tasks", {"id": "long", "method": "GET", "path": "/slow?s=60"})
    installation.api("POST", "/endpoints/e/tasks", {"id": "next", "input": 1, "path": "/echo"})
    until(lambda: installation.api("GET", "/endpoints/e/tasks/long")["state"] == "running", what="the task's start")
    assert installation.api("POST", "/endpoints/e/tasks/long:cancel")["cancelling"] is True
    assert until(lambda: _ended(installation, "long"), what="its end")["state"] == "cancelled"
    assert until(lambda: _ended(installation, "next"), what="the next one's")["state"] == "succeeded"


def _ended(installation: Installation, task: str) -> dict[str, object] | None:
    found: dict[str, object] = installation.api("GET", f"/endpoints/e/tasks/{task}")
    return found if found["ended_at"] is not None else None

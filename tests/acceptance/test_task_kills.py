"""Whatever is killed while tasks run: each acknowledged one ends once, runs once at a time, and its webhook arrives."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

import postgres
from acceptance.installation import Installation, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

TASKS = 200
BATCH = 25
KILLS = 6
SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"
WORKER = Path(__file__).parent / "task_worker.py"


class Receiver(ThreadingHTTPServer):
    """Takes webhooks, refuses every fifth once, and remembers which ids told of which task."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.told: dict[str, set[str]] = {}
        self.wrong: list[str] = []
        self.refused: set[str] = set()
        self.lock = threading.Lock()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        with self.lock:
            try:
                task = Webhook(SECRET).verify(body, headers)["data"]["id"]
            except Exception as exc:  # noqa: BLE001 - told by the test
                self.wrong.append(repr(exc))
                return 400
            self.told.setdefault(task, set()).add(headers["webhook-id"])
            if len(self.told) % 5 == 0 and task not in self.refused:
                self.refused.add(task)
                return 404
            return 204


class _Take(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.send_response(self.server.take(headers, body))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


@pytest.mark.parametrize(("store", "seed"), [("sqlite", 1), ("postgres", 2)])
def test_whatever_is_killed_each_task_ends_once(
    installation: Installation, receiver: Receiver, request: pytest.FixtureRequest, store: str, seed: int
) -> None:
    if store == "postgres":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        installation.environ["STOKER_DATABASE"] = server.database()
    installation.environ["STOKER_ALLOW_PRIVATE_URLS"] = "on"
    log = installation.folder.with_suffix(".tasks")
    installation.up()
    installation.api("POST", "/secrets", {"name": "signing", "value": SECRET})
    installation.create(
        low=2,
        high=2,
        slots=4,
        mode="queue",
        launch={"command": [sys.executable, str(WORKER), "{port}", str(log)]},
        queue={"retries": {"attempts_max": 20, "backoff_s": 0.1}},
        webhooks={"url": f"http://127.0.0.1:{receiver.server_port}/", "secret": "signing"},
    )
    until(installation.ready_workers, what="a worker")
    chance = random.Random(seed)
    ids = [f"t{n}" for n in range(TASKS)]
    tasks = [{"id": id, "input": {"s": chance.uniform(0.01, 0.3)}} for id in ids]
    submitting = threading.Thread(target=submit, args=(installation, tasks))
    submitting.start()
    finals: dict[str, str] = {}
    for kill in itertools.islice(kills(installation, chance), KILLS):
        time.sleep(chance.uniform(0.3, 1.5))
        os.kill(kill, signal.SIGKILL)
        note(installation, finals)
    submitting.join()
    until(lambda: note(installation, finals) and len(finals) == TASKS, within_s=90, what="the end of all tasks")
    assert set(finals.values()) == {"succeeded"}
    until(lambda: set(receiver.told) == set(ids), within_s=60, what="the last webhook")
    assert receiver.wrong == []
    assert {len(known) for known in receiver.told.values()} == {1}, "one id for each task, however often it was sent"
    check_overlaps(log)


def submit(installation: Installation, tasks: list[dict[str, Any]]) -> None:
    """All of them, each batch again until it is acknowledged."""
    for start in range(0, len(tasks), BATCH):

        def taken(some: list[dict[str, Any]]) -> bool:
            with contextlib.suppress(OSError, HTTPException, AssertionError, ValueError):
                installation.api("POST", "/endpoints/e/tasks:batch", {"tasks": some})
                return True
            return False

        until(lambda s=start: taken(tasks[s : s + BATCH]), within_s=60, what="the acknowledgement")  # type: ignore[misc]


def kills(installation: Installation, chance: random.Random) -> Iterator[int]:
    """Whom to kill next."""
    while True:
        whom = chance.choice(["control", "gateway", "worker"])
        if whom == "worker":
            yield chance.choice(sorted(until(installation.worker_pids, what="a worker")))
        else:
            yield installation.role({"control": "stoker.app", "gateway": "stoker.gateway.main"}[whom])


def note(installation: Installation, finals: dict[str, str]) -> bool:
    """Look at all tasks, as far as Stoker answers: no final state may ever change."""
    try:
        found = installation.api("GET", "/endpoints/e/tasks?limit=500")["items"]
    except (OSError, HTTPException, AssertionError, ValueError):
        return False
    for item in found:
        assert finals.get(item["id"], item["state"]) == item["state"]
        if item["ended_at"] is not None:
            finals[item["id"]] = item["state"]
    return True


def check_overlaps(log: Path) -> None:
    """No task ran twice at the same time, as far as its workers lived to tell."""
    runs: dict[str, list[tuple[float, float]]] = {}
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        runs.setdefault(entry["task"], []).append((entry["began"], entry["ended"]))
    assert len(runs) == TASKS
    for task, times in runs.items():
        for (_, ended), (began, _) in itertools.pairwise(sorted(times)):
            assert began >= ended, f"{task} ran twice at the same time"

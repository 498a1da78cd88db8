"""Tasks while control, gateway and workers are killed at random, with webhooks: what must hold of each of them. Run by
the test and, with many more tasks, by the benchmark.
"""

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
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook

from acceptance.installation import Installation, until

SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"
WORKER = Path(__file__).parent / "task_worker.py"
PULL_WORKER = Path(__file__).parent / "pull_worker.py"
WORKERS, SLOTS = 2, 4
BATCH = 25
PAGE = 500
# Workers ping three times within it. One that merely gets no turn for a while must not lose what it works on.
LEASE_S = 6
ROLES = {"control": "stoker.serving", "gateway": "stoker.gateway.main"}


class Receiver(ThreadingHTTPServer):
    """Takes webhooks, refuses every fifth once, and remembers which ids told of which task."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.told: dict[str, set[str]] = {}
        self.wrong: list[str] = []
        self.refused: set[str] = set()
        self.lock = threading.Lock()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """The status that one gets."""
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


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for the time of the block."""
    with Receiver() as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server
        finally:
            server.shutdown()
            serving.join()


@dataclass(slots=True)
class Storm:
    """`tasks` tasks of up to `longest_s` each, while whoever `seed` says is killed, `kills` times or, for `None`, until
    the last one has ended, with pauses between `pause_s`. `receiver` hears of each. With `pull` workers ask for them.
    """

    installation: Installation
    seed: int
    tasks: int
    longest_s: float
    kills: int | None = None
    pause_s: tuple[float, float] = (0.3, 1.5)
    receiver: Receiver | None = None
    pull: bool = False
    ended_within_s: float = 90.0
    killed: Counter[str] = field(default_factory=Counter)
    finals: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """All of it. Raises `AssertionError` when something is lost, changed, or run twice at a time."""
        stoker, log = self.installation, self.installation.folder.with_suffix(".tasks")
        stoker.environ["STOKER_ALLOW_PRIVATE_URLS"] = "on"
        stoker.up()
        stoker.api("POST", "/secrets", {"name": "signing", "value": SECRET})
        stoker.create(low=WORKERS, high=WORKERS, slots=SLOTS, mode="queue", **self._spec(log))
        until(stoker.ready_workers, what="a worker")
        chance = random.Random(self.seed)
        ids = [f"t{n}" for n in range(self.tasks)]
        some = [{"id": id, "input": {"s": chance.uniform(self.longest_s / 30, self.longest_s)}} for id in ids]
        submitting = threading.Thread(target=submit, args=(stoker, some))
        submitting.start()
        self._kill(chance)
        submitting.join()
        until(lambda: self._note() and len(self.finals) == self.tasks, within_s=self.ended_within_s, what="all ends")
        self._check(ids, log)

    def _spec(self, log: Path) -> dict[str, Any]:
        command = [PULL_WORKER, str(log)] if self.pull else [WORKER, "{port}", str(log)]
        queue: dict[str, Any] = {"retries": {"attempts_max": 20, "backoff_s": 0.1}}
        spec: dict[str, Any] = {"launch": {"command": [sys.executable, *map(str, command)]}, "queue": queue}
        if self.pull:
            queue |= {"pull": True, "lease_s": LEASE_S}
            spec["probes"] = {}
        if self.receiver is not None:
            spec["webhooks"] = {"url": f"http://127.0.0.1:{self.receiver.server_port}/", "secret": "signing"}
        return spec

    def _kill(self, chance: random.Random) -> None:
        until_s = time.monotonic() + self.ended_within_s
        while self.killed.total() < self.kills if self.kills is not None else len(self.finals) < self.tasks:
            assert time.monotonic() < until_s, "the tasks do not end"
            time.sleep(chance.uniform(*self.pause_s))
            whom = chance.choice(["control", "gateway", "worker"])
            if whom == "worker":
                pid = chance.choice(sorted(until(self.installation.worker_pids, what="a worker")))
            else:
                pid = self.installation.role(ROLES[whom])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.killed[whom] += 1
            self._note()

    def _note(self) -> bool:
        """Look at all tasks, as far as Stoker answers: no final state may ever change."""
        cursor: str | None = ""
        while cursor is not None:
            try:
                page = self.installation.api("GET", f"/endpoints/e/tasks?limit={PAGE}{cursor}")
            except (OSError, HTTPException, AssertionError, ValueError):
                return False
            for item in page["items"]:
                assert self.finals.get(item["id"], item["state"]) == item["state"]
                if item["ended_at"] is not None:
                    self.finals[item["id"]] = item["state"]
            cursor = None if page["next"] is None else f"&cursor={page['next']}"
        return True

    def _check(self, ids: list[str], log: Path) -> None:
        assert set(self.finals.values()) == {"succeeded"}
        runs = check_overlaps(log)
        assert set(runs) == set(ids)
        if self.receiver is not None:
            told = self.receiver.told
            until(lambda: set(told) == set(ids), what="the last webhook")
            assert self.receiver.wrong == []
            assert {len(known) for known in told.values()} == {1}, "one id for each task, however often it was sent"
        if not self.pull:
            spent, most = self._attempts() - len(ids), self.killed["worker"] * SLOTS
            assert spent <= most, f"{spent} attempts were spent, and {dict(self.killed)} killed"

    def _attempts(self) -> int:
        total = 0
        cursor = ""
        while True:
            page = self.installation.api("GET", f"/endpoints/e/tasks?limit={PAGE}{cursor}")
            total += sum(int(item["attempts"]) for item in page["items"])
            if page["next"] is None:
                return total
            cursor = f"&cursor={page['next']}"


def submit(installation: Installation, tasks: list[dict[str, Any]]) -> None:
    """All of them, each batch again until it is acknowledged."""
    for start in range(0, len(tasks), BATCH):

        def taken(some: list[dict[str, Any]]) -> bool:
            with contextlib.suppress(OSError, HTTPException, AssertionError, ValueError):
                installation.api("POST", "/endpoints/e/tasks:batch", {"tasks": some})
                return True
            return False

        until(lambda s=start: taken(tasks[s : s + BATCH]), what="the acknowledgement")  # type: ignore[misc]


def check_overlaps(log: Path) -> dict[str, list[tuple[float, float]]]:
    """No task ran twice at the same time, as far as its workers lived to tell. When each ran."""
    runs: dict[str, list[tuple[float, float]]] = {}
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        runs.setdefault(entry["task"], []).append((entry["began"], entry["ended"]))
    for task, times in runs.items():
        for (_, ended), (began, _) in itertools.pairwise(sorted(times)):
            assert began >= ended, f"{task} ran twice at the same time"
    return runs

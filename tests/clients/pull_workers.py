"""A real Stoker whose workers ask for tasks: handlers of other clouds' packages, each in its own environment."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acceptance.installation import Installation, until

# Workers ping three times within it. One that merely gets no turn for a while must not lose what it works on.
LEASE_S = 6


class Pulling(Installation):
    """One endpoint for each way to handle jobs."""

    def __init__(self, folder: Path, python: Path, handlers: Path) -> None:
        super().__init__(folder)
        self.python = python
        self._command = [str(python), str(handlers)]
        self.deployed: set[str] = set()

    def deploy(self, name: str, *, low: int = 1, high: int = 1, slots: int = 1, **queue: Any) -> None:
        """An endpoint of the handler of that name, unless there is one."""
        if name in self.deployed:
            return
        self.deployed.add(name)
        spec = {
            "name": name,
            "launch": {"command": [*self._command, name]},
            "pools": [{"bounds": {"min": low, "max": high}}],
            "slots": slots,
            "mode": "queue",
            "queue": {"pull": True, "lease_s": LEASE_S, "retries": {"backoff_s": 0.1}, **queue},
            "rollout": {"grace_s": 2},
        }
        self.api("POST", "/endpoints", spec)

    def submit(self, name: str, id: str, value: object, **more: Any) -> Any:
        return self.api("POST", f"/endpoints/{name}/tasks", {"id": id, "input": value, **more})

    def task(self, name: str, id: str) -> Any:
        return self.api("GET", f"/endpoints/{name}/tasks/{id}")

    def ended(self, name: str, id: str, *, within_s: float = 60.0) -> Any:
        """The task when it has ended."""

        def look() -> Any:
            found = self.task(name, id)
            return found if found["ended_at"] is not None else None

        return until(look, within_s=within_s, what=f"the end of {id}")

    def running(self, name: str, id: str) -> Any:
        """The task as soon as a worker has it."""

        def look() -> Any:
            found = self.task(name, id)
            return found if found["state"] == "running" else None

        return until(look, what=f"the start of {id}")

    def result(self, name: str, id: str) -> Any:
        status, body = self.get(f"/api/v1/endpoints/{name}/tasks/{id}/result")
        assert status == 200, body
        return json.loads(body)

    def lines(self, name: str, id: str) -> list[Any]:
        """A result that was put out bit by bit."""
        with self.request("GET", f"/api/v1/endpoints/{name}/tasks/{id}/result") as response:
            assert response.headers["Content-Type"] == "application/x-ndjson"
            return [json.loads(line) for line in response.read().splitlines()]

    def began(self, name: str) -> list[str]:
        """What handlers have written down when they began: the ids of jobs."""
        path = self.folder / f"{name}.began"
        return path.read_text().split() if path.exists() else []

    def most_at_once(self, name: str, expected: int) -> int:
        """How many tasks are running at once, once there are as many as that and had the time to become more."""

        def running() -> int:
            count: int = self.api("GET", f"/endpoints/{name}/queue")["running"]
            return count

        most: int = until(lambda: found if (found := running()) >= expected else 0, what=f"{expected} at once")
        for _ in range(10):
            time.sleep(0.1)
            most = max(most, running())
        return most

    def let(self, name: str) -> None:
        """Let those go on whose input says that they are `held` by this name."""
        let(self, name)

    def kill_workers(self, name: str) -> None:
        """kill -9 of the command of each of its workers, not of what it has started beside it."""
        for worker in self.ready_workers(name):
            folder = self.folder / "workers" / worker["id"]
            os.kill(main_of(folder), signal.SIGKILL)


def let(stoker: Installation, name: str) -> None:
    """Let handlers go on whose input says that they are `held` by this name."""
    (stoker.folder / f"{name}.go").touch()


def main_of(folder: Path) -> int:
    """The process of a worker that its shim has started."""
    mark = f"STOKER_WORKER_FOLDER={folder}".encode()
    found: Mapping[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found = {**found, int(process.name): int((process / "stat").read_text().rpartition(")")[2].split()[1])}
        except OSError:
            continue
    # Of its processes the one that none of the others has started.
    [main] = [pid for pid, parent in found.items() if parent not in found]
    return main

"""A real Stoker in a folder of its own, started as a user would, and what tests ask of it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import ports
from stoker.providers.shim import descendants

WORKER = Path(__file__).parent / "worker.py"
_blocks = itertools.count()
# Ports of workers: a block for each installation, so that tests side by side do not take each other's.
_BLOCK = 40


def until(holds: Callable[[], Any], *, within_s: float = 60.0, what: str = "it") -> Any:
    """Poll until `holds()` is true, and return what it said. Fails after `within_s`."""
    begun = time.monotonic()
    while True:
        found = holds()
        if found:
            return found
        waited = time.monotonic() - begun
        if waited >= within_s:
            raise AssertionError(f"{what} did not come to hold within {within_s:g} s")
        # Looking costs those time who are waited for: what takes long is looked at less often.
        time.sleep(min(0.1, max(0.02, waited / 20)))


class Installation:
    """`up` starts it. `close` kills whatever is left of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = ports.free()
        seat = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
        first = 22_000 + seat * 1_000 + (next(_blocks) * _BLOCK) % 1_000
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("STOKER_")},
            "STOKER_DATA_DIR": str(folder),
            "STOKER_WORKER_PORTS": f"{first}-{first + _BLOCK - 1}",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder.with_suffix(".log")

    # The command line

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("stoker")), *arguments]

    def run(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line to its end."""
        return subprocess.run(
            self.command(*arguments),
            env={**self.environ, "NO_COLOR": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *arguments: str) -> None:
        """`stoker up`."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command("up", "--port", str(self.port), *arguments), env=self.environ, stdout=log, stderr=log
            )

    def up(self) -> None:
        """`stoker up`, until it is ready."""
        self.start()
        until(self.ready, what="Stoker")

    def ready(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"stoker up ended with {self.process.returncode}:\n{self.log.read_text()}")
        # One of its roles may be gone in the middle of the answer.
        with contextlib.suppress(OSError, HTTPException, AssertionError, ValueError):
            return self.api("GET", "/info")["gateway"]["connected"] is True
        return False

    def interrupt(self, number: int = signal.SIGINT, *, wait_s: float = 60.0) -> int:
        """Signal the supervisor and wait for its end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(wait_s)

    # Processes

    def role(self, module: str) -> int:
        """The process id of a role: `stoker.serving` or `stoker.gateway.main`."""
        found: set[int] = until(lambda: self.roles(module), what=module)
        return min(found)

    def roles(self, module: str) -> set[int]:
        """All that there are: two for a moment while one takes over from the other."""
        assert self.process is not None
        return set(_running(self.process.pid, module))

    def worker_pids(self) -> set[int]:
        """The commands of all workers of this installation, whoever started them."""
        mark = f"STOKER_WORKER_FOLDER={self.folder}/".encode()
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (process / "environ").read_bytes():
                    found.add(int(process.name))
        return found

    def processes(self) -> list[str]:
        """The command lines of all processes that have to do with this installation."""
        return list(self._commands().values())

    def _commands(self) -> dict[int, str]:
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if str(self.folder) in command and int(process.name) != os.getpid():
                    found[int(process.name)] = command
        return found | {pid: f"worker {pid}" for pid in self.worker_pids()}

    def close(self) -> None:
        """Nothing is left, and nobody is asked: how it goes in order is what tests are for."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        until(self._killed, what="the end of all processes")

    def _killed(self) -> bool:
        left = self._commands()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    # HTTP

    @property
    def key(self) -> str:
        return (self.folder / "admin-key").read_text().strip()

    @contextlib.contextmanager
    def request(
        self, method: str, path: str, *, body: bytes | None = None, timeout_s: float = 30.0, **headers: str
    ) -> Iterator[HTTPResponse]:
        """One request on a connection of its own, with the admin's key."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            sent = {"Authorization": f"Bearer {self.key}"} | {n.replace("_", "-"): v for n, v in headers.items()}
            connection.request(method, path, body=body, headers=sent)
            yield connection.getresponse()
        finally:
            connection.close()

    def get(self, path: str, **more: Any) -> tuple[int, bytes]:
        with self.request("GET", path, **more) as response:
            return response.status, response.read()

    def api(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        """A call of the native API that must succeed."""
        content = None if body is None else json.dumps(body).encode()
        with self.request(method, f"/api/v1{path}", body=content, Content_Type="application/json", **more) as response:
            text = response.read()
            assert response.status < 300, f"{response.status} {text.decode()}"
            return json.loads(text) if text else None

    def create(self, name: str = "e", *, low: int = 0, high: int = 2, slots: int = 2, **more: Any) -> Any:
        """An endpoint of the test worker."""
        spec = {
            "name": name,
            "launch": {"command": [sys.executable, str(WORKER), "{port}"]},
            "pools": [{"bounds": {"min": low, "max": high}}],
            "slots": slots,
            "probes": {"startup": {"path": "/health"}, "liveness": {"path": "/health"}},
            **more,
        }
        return self.api("POST", "/endpoints", spec)["endpoint"]

    def traffic(self, what: str, name: str = "e") -> Any:
        """A number of the endpoint's last report; `None` before the first."""
        return (self.api("GET", f"/endpoints/{name}")["traffic"] or {}).get(what)

    def ready_workers(self, name: str = "e") -> list[Any]:
        return [w for w in self.api("GET", f"/endpoints/{name}/workers")["items"] if w["state"] == "ready"]


def _running(parent: int, module: str) -> Iterator[int]:
    for pid in descendants(parent):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if module.encode() in command:
                yield pid

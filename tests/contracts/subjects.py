"""What the contract of providers is tried on: each provider, and how to make its workers do something."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cluster.running import Cluster
from docker_engine import Engine
from providers.containers import container_of
from providers.workers import LASTING, PORTS, command, owner, python, shell, spec
from stoker.domain.errors import Unavailable
from stoker.domain.worker import WorkerId
from stoker.providers.base import Provider
from stoker.providers.fake import FakeProvider


class Subject(Protocol):
    """One provider, and how to make its workers do something."""

    @property
    def provider(self) -> Provider: ...

    def again(self) -> Provider:
        """What finds the same workers after a restart of Stoker."""

    async def last(self, name: str) -> None:
        """Start a worker that says `up` and goes on."""

    async def end(self, name: str, code: int) -> None:
        """Start a worker that says `up` and `bye` and ends with this code, or by this signal where it is negative."""

    async def serve(self, name: str) -> int:
        """Start a worker that listens at the one port that all workers of this kind have, and say which."""

    def away(self) -> AbstractContextManager[None]:
        """What workers run on cannot be asked, as if its connection were cut; the workers go on."""

    def runs(self, name: str) -> int:
        """How often its command has been run."""

    def identity(self, name: str) -> object:
        """The same as long as it is the same run."""


@dataclass
class Fake:
    provider: FakeProvider

    def again(self) -> Provider:
        # Its memory is its machine.
        return self.provider

    async def last(self, name: str) -> None:
        new = WorkerId(name) not in self.provider.workers
        await self.provider.start(spec(name, "serve"))
        if new:
            self.provider.say(WorkerId(name), "up")

    async def end(self, name: str, code: int) -> None:
        new = WorkerId(name) not in self.provider.workers
        await self.last(name)
        if new:
            self.provider.say(WorkerId(name), "bye")
            self.provider.crash(WorkerId(name), code=code)

    async def serve(self, name: str) -> int:
        await self.provider.start(spec(name, "serve", port=8000))
        return 8000

    @contextmanager
    def away(self) -> Iterator[None]:
        self.provider.list_error = Unavailable("nobody answers")
        try:
            yield
        finally:
            self.provider.list_error = None

    def runs(self, name: str) -> int:
        return self.provider.starts.count(WorkerId(name))

    def identity(self, name: str) -> object:
        return self.provider.workers[WorkerId(name)].started_at


@dataclass
class Processes:
    provider: Provider
    folder: Path
    connect: Callable[[], Provider]

    def again(self) -> Provider:
        return self.connect()

    async def last(self, name: str) -> None:
        await self._start(name, LASTING)

    async def end(self, name: str, code: int) -> None:
        await self._start(name, ending(code))

    async def _start(self, name: str, script: str) -> None:
        counter = self.folder / f"{name}.runs"
        await self.provider.start(shell(name, f'echo >> "$COUNTER"; {script}', env={"COUNTER": str(counter)}))

    async def serve(self, name: str) -> int:
        # That a restart of the machine would not give to anybody else.
        port = PORTS.first + os.getpid() % 9_000
        await self.provider.start(python(name, SERVE, port=port))
        return port

    @contextmanager
    def away(self) -> Iterator[None]:
        shutil.move(self.folder / "workers", self.folder / "elsewhere")
        try:
            yield
        finally:
            shutil.move(self.folder / "elsewhere", self.folder / "workers")

    def runs(self, name: str) -> int:
        counter = self.folder / f"{name}.runs"
        return counter.read_text().count("\n") if counter.exists() else 0

    def identity(self, name: str) -> object:
        return owner(self.folder, name), command(self.folder, name)


@dataclass
class _Scripts:
    """Workers that run a shell's scripts, which count in a folder how often each has begun."""

    provider: Provider
    connect: Callable[[], Provider]
    counters: Path

    def again(self) -> Provider:
        return self.connect()

    async def last(self, name: str) -> None:
        await self._start(name, "echo up; exec sleep 600")

    async def end(self, name: str, code: int) -> None:
        await self._start(name, ending(code))

    async def _start(self, name: str, script: str) -> None:
        raise NotImplementedError


@dataclass
class Containers(_Scripts):
    engine: Engine

    async def _start(self, name: str, script: str) -> None:
        await self.provider.start(shell(name, f"echo >> /counters/{name}; {script}"))

    async def serve(self, name: str) -> int:
        port = 28_000 + os.getpid() % 900
        await self.provider.start(shell(name, "exec httpd -f -p $HOST:$PORT -h /tmp", port=port, listen=80))
        return port

    @contextmanager
    def away(self) -> Iterator[None]:
        self.engine.freeze(stopped=True)
        try:
            yield
        finally:
            self.engine.freeze(stopped=False)

    def runs(self, name: str) -> int:
        counter = self.counters / name
        return counter.read_text().count("\n") if counter.exists() else 0

    def identity(self, name: str) -> object:
        found = self.engine.inspect(container_of(self.engine, name))
        return found["Id"], found["State"]["StartedAt"], found["State"]["Pid"]


@dataclass
class Pods(_Scripts):
    cluster: Cluster

    async def _start(self, name: str, script: str) -> None:
        await self.provider.start(shell(name, f"echo >> {self.counters}/{name}.runs; {script}"))

    async def serve(self, name: str) -> int:
        await self.provider.start(python(name, SERVE, listen=8080))
        return 8080

    @contextmanager
    def away(self) -> Iterator[None]:
        self.cluster.do(self.cluster.server.thawed.clear)
        try:
            yield
        finally:
            self.cluster.do(self.cluster.server.thawed.set)

    def runs(self, name: str) -> int:
        counter = self.counters / f"{name}.runs"
        return counter.read_text().count("\n") if counter.exists() else 0

    def identity(self, name: str) -> object:
        return self.cluster.pod_of(name)["metadata"]["uid"]


def ending(code: int) -> str:
    """What says `up` and `bye`, and ends so."""
    return f"echo up; echo bye; exit {code}" if code >= 0 else f"echo up; echo bye; kill -{-code} $$"


# Where it listens is in its environment.
SERVE = """
import os, socket
server = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])))
while True:
    server.accept()[0].recv(1)
"""

"""Tiny workers for tests of providers: what they run, how to wait for something, what is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from stoker.domain.endpoint import EndpointId
from stoker.domain.hardware import PortRange
from stoker.domain.worker import Exit, Observed, WorkerId, WorkerSpec
from stoker.providers.base import LogLine, Provider
from stoker.providers.process import ProcessProvider
from stoker.providers.shim import descendants

T = TypeVar("T")
PORTS = PortRange(20_000, 29_999)
# Says when its traps are set, and goes on.
LASTING = "echo up; while :; do sleep 0.05; done"


def run(main: Coroutine[Any, Any, T], *, within_s: float = 110.0) -> T:
    """Run it in a loop of its own, with a bound."""
    return asyncio.run(asyncio.wait_for(main, within_s))


def spec(name: str, *command: str, **more: Any) -> WorkerSpec:
    return WorkerSpec(id=WorkerId(name), endpoint=EndpointId("e"), name=name, command=command, **more)


def shell(name: str, script: str, **more: Any) -> WorkerSpec:
    return spec(name, "sh", "-c", script, **more)


def python(name: str, script: str, **more: Any) -> WorkerSpec:
    return spec(name, sys.executable, "-I", "-S", "-c", script, **more)


async def until(holds: Callable[[], Coroutine[Any, Any, T | None]], *, what: str, within_s: float = 60.0) -> T:
    """Poll until it says something true, and return that."""
    deadline = time.monotonic() + within_s
    while not (found := await holds()):
        assert time.monotonic() < deadline, f"no {what} within {within_s} s"
        await asyncio.sleep(0.01)
    return found


async def until_true(holds: Callable[[], bool], *, what: str, within_s: float = 60.0) -> None:
    async def ask() -> bool:
        return holds()

    await until(ask, what=what, within_s=within_s)


async def observed(provider: Provider, name: str) -> Observed | None:
    return next((found for found in await provider.list() if found.id == name), None)


async def ended(provider: Provider, name: str, *, within_s: float = 60.0) -> Exit:
    """Wait for its end, which is listed."""

    async def ask() -> Exit | None:
        found = await observed(provider, name)
        assert found is not None, f"{name} is not listed"
        return found.exit

    return await until(ask, what=f"end of {name}", within_s=within_s)


async def lines(provider: Provider, name: str, *, tail: int = 1000) -> list[LogLine]:
    return [line async for line in provider.logs(WorkerId(name), tail=tail, follow=False)]


async def texts(provider: Provider, name: str, *, tail: int = 1000) -> list[str]:
    return [line.text for line in await lines(provider, name, tail=tail)]


async def said(provider: Provider, name: str, text: str = "up") -> None:
    """Wait until the worker has printed this line."""

    async def ask() -> bool:
        return text in await texts(provider, name)

    await until(ask, what=f"{text!r} of {name}")


async def clear(provider: Provider) -> None:
    """Stop everything until nothing is listed."""

    async def ask() -> bool:
        found = await provider.list()
        await asyncio.gather(*(provider.stop(one.id, grace_s=0.0) for one in found))
        return not found

    await until(ask, what="end of all workers")


@contextlib.asynccontextmanager
async def processes(
    folder: Path, *, log_bytes: int = 1024 * 1024, workers_kept: int = 100
) -> AsyncIterator[ProcessProvider]:
    """The provider of this folder; in the end nothing of its workers is left."""
    provider = ProcessProvider(folder / "workers", ports=PORTS, log_bytes=log_bytes, workers_kept=workers_kept)
    try:
        yield provider
    finally:
        await clear(provider)
        await provider.close()
        assert [entry.name for entry in (folder / "workers").iterdir()] == [".gone"]


def owner(folder: Path, name: str) -> int:
    """The process id of a running worker's shim."""
    return int((folder / "workers" / name / "lock").read_text())


def command(folder: Path, name: str) -> int:
    """The process id of a running worker's command."""
    return descendants(owner(folder, name))[0]


def alive(pid: int) -> bool:
    """Is there such a process, other than as a zombie?"""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def open_files() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))

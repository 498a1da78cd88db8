"""Processes of the benchmark: started with a port of their own, measured with all their children, ended by pid."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import psutil

BENCH: Final = Path(__file__).parent.parent
ROOT: Final = BENCH.parent
START_S_MAX: Final = 30.0
END_S_MAX: Final = 10.0
_CLOSED_PORTS: set[int] = set()


class Failed(Exception):
    """A process that did not come up, or went away."""


def free_port() -> int:
    """A port that nobody listens on, and that was not given out before."""
    while True:
        with socket.socket() as it:
            it.bind(("127.0.0.1", 0))
            port: int = it.getsockname()[1]
        if port not in _CLOSED_PORTS:
            _CLOSED_PORTS.add(port)
            return port


def raise_descriptors() -> None:
    """Let this process and its children open as many files as they may."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors(), descriptors()))


def descriptors() -> int:
    """How many files a process may open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 1_000_000 if hard == resource.RLIM_INFINITY else hard


def python(module: str, *arguments: str) -> list[str]:
    """The command line of a module of this benchmark."""
    return [sys.executable, "-m", f"data_plane.{module}", *arguments]


@contextlib.contextmanager
def process(
    command: Sequence[str], *, port: int, log: Path, pass_fds: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on the port while the block runs. Raises `Failed` when it does not come up."""
    with log.open("ab") as out:
        it = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, pass_fds=pass_fds, cwd=BENCH)
    try:
        _await_port(it, port, log)
        yield it
    finally:
        end(it)


def _await_port(it: subprocess.Popen[bytes], port: int, log: Path) -> None:
    bound = time.monotonic() + START_S_MAX
    while time.monotonic() < bound:
        if it.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.05)
    raise Failed(f"{it.args!r} does not listen on {port}:\n{log.read_text(errors='replace')[-2_000:]}")


def end(it: subprocess.Popen[bytes]) -> None:
    """End a process and its children."""
    family = _family(it.pid)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(family, timeout=END_S_MAX)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    it.wait()


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(pid: int) -> float:
    """User and system time of a process and its children so far, in seconds: in nanoseconds where the kernel says."""
    return sum(_cpu_s(member) for member in _family(pid))


def own_cpu_s(pid: int) -> float:
    """The same of the process alone."""
    return _cpu_s(psutil.Process(pid))


def _cpu_s(member: psutil.Process) -> float:
    nanoseconds = 0
    try:
        for task in Path(f"/proc/{member.pid}/task").iterdir():
            nanoseconds += int((task / "schedstat").read_text().split()[0])
    except OSError:
        times = member.cpu_times()
        return float(times.user + times.system)
    return nanoseconds / 1e9


def memory_bytes(pid: int) -> int:
    """Resident memory of a process and its children."""
    return sum(int(member.memory_info().rss) for member in _family(pid))


def describe_machine() -> str:
    """The machine in general words."""
    return f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, Python {sys.version.split()[0]}"

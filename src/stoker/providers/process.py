"""Workers as processes of this machine, each under a shim of its own. What runs is what the folders' locks say.

Nothing is remembered here: `workers/{id}/` is all there is of a worker, and `.gone/{id}` what is kept of its output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.hardware import Offer, PortRange
from stoker.domain.worker import Exit, Observed, WorkerId, WorkerSpec
from stoker.providers import inventory, shim, worker_log
from stoker.providers.base import LogLine, ProviderOptions
from stoker.roles import holder

# A shim answers within milliseconds; on a machine that swaps it may take seconds.
SHIM_WAIT_S = 20.0
PID_WAIT_S = 1.0
GONE = ".gone"
# What a worker takes over of Stoker's own environment: what programs need to find files, never what Stoker was told.
PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
)


class ProcessProvider:
    """See `stoker.providers.base.Provider`. `ports` is what workers' ports are chosen from; `log_bytes` bounds the
    output kept of each, `workers_kept` the ended workers whose output is kept.
    """

    def __init__(self, folder: Path, *, ports: PortRange, log_bytes: int, workers_kept: int) -> None:
        self._folder = folder
        self._ports = ports
        self._log_bytes = log_bytes
        self._workers_kept = workers_kept
        self._gone = folder / GONE
        self._gone.mkdir(parents=True, exist_ok=True, mode=0o700)

    # Starting

    async def start(self, spec: WorkerSpec) -> None:
        if not spec.command:
            raise Invalid("the process provider runs commands, not images")
        folder = self._folder / spec.id
        await asyncio.to_thread(self._prepare, folder, spec)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            shim.__file__,
            str(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={},
            start_new_session=True,
        )
        try:
            _, said = await asyncio.wait_for(process.communicate(), SHIM_WAIT_S)
        except TimeoutError as exc:
            # Harmless if it comes through after all: the next start finds the lock held.
            process.kill()
            await process.wait()
            raise Unavailable(f"the worker's shim did not answer within {SHIM_WAIT_S:g} s") from exc
        if process.returncode not in (0, shim.HELD, shim.ENDED):
            lines = said.decode(errors="replace").strip().splitlines()
            raise Unavailable(f"the worker's shim failed: {lines[-1] if lines else process.returncode}")

    def _prepare(self, folder: Path, spec: WorkerSpec) -> None:
        folder.mkdir(exist_ok=True, mode=0o700)
        work = folder / "work"
        work.mkdir(exist_ok=True, mode=0o700)
        content = {
            "argv": list(spec.command),
            "env": self._environ(folder, spec),
            "cwd": str(work),
            "log_bytes": self._log_bytes,
        }
        _write_private(folder / "spec.json", json.dumps(content))

    def _environ(self, folder: Path, spec: WorkerSpec) -> dict[str, str]:
        environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        # Else the output of a Python program that ends badly would end with it.
        environ["PYTHONUNBUFFERED"] = "1"
        environ.update(spec.env)
        environ.update(
            {
                # Empty on purpose where no card was asked for: a worker takes none that it was not given.
                "CUDA_VISIBLE_DEVICES": ",".join(spec.gpus),
                "STOKER_WORKER_ID": spec.id,
                "STOKER_WORKER_FOLDER": str(folder),
                "HOST": "127.0.0.1",
            }
        )
        if spec.port is not None:
            environ["PORT"] = str(spec.port)
        return environ

    # Stopping

    async def stop(self, worker: WorkerId, *, grace_s: float) -> None:
        await asyncio.to_thread(self._stop, self._folder / worker, grace_s)

    def _stop(self, folder: Path, grace_s: float) -> None:
        if not folder.is_dir():
            return
        if _held(folder):
            _write_private(folder / "stop.json", json.dumps({"grace_s": grace_s}))
            pid = self._shim_pid(folder)
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            return
        _end_survivors(folder)
        self._put_away(folder)

    def _shim_pid(self, folder: Path) -> int | None:
        """The process that holds the lock; `None` when nobody does any more."""
        deadline = time.monotonic() + PID_WAIT_S
        while True:
            pid = holder(folder / "lock")
            # Held without an id in it: it was taken this moment.
            if pid is not None or not _held(folder) or time.monotonic() >= deadline:
                return pid
            time.sleep(0.01)

    def _put_away(self, folder: Path) -> None:
        """Keep the output of an ended worker, and nothing else of it."""
        kept = self._gone / folder.name
        for name in ("log.1", "log"):
            if (folder / name).exists():
                kept.mkdir(exist_ok=True, mode=0o700)
                (folder / name).replace(kept / name)
        shutil.rmtree(folder, ignore_errors=True)
        old = sorted(self._gone.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)[self._workers_kept :]
        for path in old:
            shutil.rmtree(path, ignore_errors=True)

    # Looking

    async def list(self) -> tuple[Observed, ...]:
        return await asyncio.to_thread(self._list)

    def _list(self) -> tuple[Observed, ...]:
        try:
            folders = [entry.path for entry in os.scandir(self._folder) if entry.is_dir() and entry.name != GONE]
        except OSError as exc:
            raise Unavailable(f"cannot read {self._folder}: {exc.strerror}") from exc
        seen = (self._observe(Path(folder)) for folder in folders)
        return tuple(observed for observed in seen if observed is not None)

    def _observe(self, folder: Path) -> Observed | None:
        worker = WorkerId(folder.name)
        if _held(folder):
            return Observed(id=worker, running=True)
        if not (folder / "started").exists():
            # Prepared by a control that died before it spawned the shim: nothing has ever run.
            return None
        return Observed(id=worker, running=False, exit=_exit(folder))

    async def listens(self, worker: WorkerId, port: int) -> bool:
        return await asyncio.to_thread(self._listens, self._folder / worker, port)

    def _listens(self, folder: Path, port: int) -> bool:
        pid = holder(folder / "lock")
        if pid is None:
            return False
        inodes = set(_listening_inodes(port))
        wanted = {f"socket:[{inode}]" for inode in inodes}
        return any(link in wanted for process in shim.descendants(pid) for link in _open_files(process))

    async def offers(self) -> tuple[Offer, ...]:
        return (await asyncio.to_thread(inventory.local_offer, self._ports),)

    async def logs(self, worker: WorkerId, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        folder, gone = self._folder / worker, self._gone / worker
        async for line in worker_log.read(folder, gone, tail=tail, follow=follow, running=lambda: _held(folder)):
            yield line

    async def close(self) -> None:
        """Nothing is held."""


def _held(folder: Path) -> bool:
    """Does a shim live in this folder?"""
    return worker_log.locked(folder / "lock")


def _write_private(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".aside")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    aside.replace(path)


def _exit(folder: Path) -> Exit:
    try:
        recorded = json.loads((folder / "exit.json").read_bytes())
        return Exit(code=recorded["code"], at=recorded["at"], reason=recorded["reason"])
    except FileNotFoundError:
        # The shim was killed. The kernel has ended the command with it; what the command had started is ended now.
        _end_survivors(folder)
        lost = Exit(code=None, at=time.time(), reason="its shim was killed, and the worker with it")
        _write_private(folder / "exit.json", json.dumps({"code": None, "at": lost.at, "reason": lost.reason}))
        return lost


def _end_survivors(folder: Path) -> None:
    """Kill processes that carry the worker's mark but have no shim any more. Linux only."""
    mark = f"STOKER_WORKER_FOLDER={folder}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table) as file:
            next(file)
            for line in file:
                fields = line.split()
                # 0A is LISTEN in the kernel's enumeration of TCP states (include/net/tcp_states.h).
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _open_files(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(entry.path)


def connect(options: ProviderOptions) -> ProcessProvider:
    """Options: `ports` (PortRange), `log_mib` (output kept of each worker), `workers_kept` (ended workers)."""
    given = options.options
    ports, log_mib, kept = given.get("ports"), given.get("log_mib", 16.0), given.get("workers_kept", 100)
    if not isinstance(ports, PortRange) or not isinstance(log_mib, float | int) or not isinstance(kept, int):
        raise Invalid("the process provider needs ports, log_mib and workers_kept")
    folder = options.data_dir / "workers"
    return ProcessProvider(folder, ports=ports, log_bytes=int(log_mib * 1024 * 1024), workers_kept=kept)

"""A local worker's folder: what it tells of the worker and its processes, and what is done to them by it.

Whoever holds the lock in it is alive. Used by the process provider alone; everything here blocks.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from stoker.domain.worker import Exit, Observed, WorkerId
from stoker.providers import listeners, shim

PID_WAIT_S = 1.0
# What survived its shim may be making children while it is looked for.
SURVIVOR_PASSES, SURVIVOR_PAUSE_S = 50, 0.01
PAUSED = "paused"


def pause(folder: Path) -> None:
    """Stop all processes of a worker but its shim, which goes on to mind them."""
    pid = shim_pid(folder)
    if pid is None:
        return
    (folder / PAUSED).touch(mode=0o600)
    stopped: set[int] = set()
    # Until nobody is left who could make another process.
    while new := set(shim.descendants(pid)) - stopped:
        _signal(new, signal.SIGSTOP)
        stopped |= new


def resume(folder: Path) -> None:
    """Let those go on that were stopped by `pause`."""
    if not (folder / PAUSED).exists():
        return
    pid = shim_pid(folder)
    if pid is not None:
        _signal(shim.descendants(pid), signal.SIGCONT)
    (folder / PAUSED).unlink(missing_ok=True)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def observe(folder: Path) -> Observed | None:
    """What there is to see of the worker; `None` when there never was one, or it is put away."""
    worker = WorkerId(folder.name)
    # In this order: a shim that comes between the two questions must not be taken for one that has ended.
    started = (folder / "started").exists()
    if _held(folder):
        return Observed(id=worker, running=True)
    # Else prepared by a control that died before it spawned the shim: nothing has ever run.
    found = _exit(folder) if started else None
    return None if found is None else Observed(id=worker, running=False, exit=found)


def ended(folder: Path) -> bool:
    """Has it run, and runs no more? Not so while it is only prepared."""
    started = (folder / "started").exists()
    return not _held(folder) and (started or not folder.is_dir())


def _held(folder: Path) -> bool:
    """Does a shim live in this folder? Only shims lock exclusively; a shared lock asks, for a moment."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_shared(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def kept_free(folder: Path) -> Iterator[bool]:
    """Is there no shim in this folder? Then none can come as long as this lasts. Raises `FileNotFoundError`."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _try_shared(descriptor)
    finally:
        os.close(descriptor)


def _try_shared(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def shim_pid(folder: Path) -> int | None:
    """The process that holds the lock; `None` when nobody does any more."""
    deadline = time.monotonic() + PID_WAIT_S
    while _held(folder) and time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            pid = int((folder / "lock").read_bytes())
            # The lock may have gone since, and the number to somebody else.
            if os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        # Held without an id in it: it was taken this moment.
        time.sleep(0.01)
    return None


def write_private(path: Path, text: str) -> None:
    """At one stroke, for its owner only. Several may write the same file at once; the last one wins."""
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise


def grace_s(folder: Path) -> float:
    """What an earlier stop granted; endless when there was none."""
    try:
        return float(json.loads((folder / "stop.json").read_bytes())["grace_s"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return math.inf


def _exit(folder: Path) -> Exit | None:
    """How the worker of a folder without a shim ended; `None` when it is just being put away."""
    try:
        recorded = json.loads((folder / "exit.json").read_bytes())
        return Exit(code=recorded["code"], at=recorded["at"], reason=recorded["reason"])
    except FileNotFoundError:
        if not (folder / "started").exists():
            return None
        reason = "its shim was killed, and the worker with it"
    except (ValueError, KeyError, TypeError):
        # The machine went down before the file was on its disk.
        reason = "the record of its end is damaged"
    # With its shim the kernel has ended the command; what the command had started is ended now.
    end_survivors(folder)
    lost = Exit(code=None, at=time.time(), reason=reason)
    with contextlib.suppress(OSError):
        write_private(folder / "exit.json", json.dumps({"code": None, "at": lost.at, "reason": lost.reason}))
    return lost


def end_survivors(folder: Path) -> None:
    """Kill processes that carry the worker's mark but have no shim any more. Linux only."""
    mark = b"STOKER_WORKER_FOLDER=" + os.fsencode(folder)
    for _ in range(SURVIVOR_PASSES):
        found = 0
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    os.kill(int(name), signal.SIGKILL)
                    found += 1
        if not found:
            return
        time.sleep(SURVIVOR_PAUSE_S)


def listens(folder: Path, port: int) -> bool:
    """Does a process of this worker listen on the port? Linux only."""
    wanted = {f"socket:[{inode}]" for found, inode in listeners.listening() if found == port}
    if not wanted or not _held(folder):
        return False
    pid = shim_pid(folder)
    processes = () if pid is None else shim.descendants(pid)
    return any(link in wanted for process in processes for link in _open_files(process))


def _open_files(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(f"/proc/{pid}/fd/{name}")

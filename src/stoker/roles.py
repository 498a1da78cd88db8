"""What the supervisor and its roles have in common: locks on files, and the lifeline. Standard library only.

A lifeline is a pipe whose writing end the supervisor holds. A line on it is an order; its end means that the supervisor
is gone, however it went, and that the role must go too.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

_LOCK_LOOK_S = 0.05
# The exit code of a role that says: as things are set, I can never run here (EX_CONFIG of sysexits.h).
REFUSED = 78


class Held(Exception):
    """Somebody else holds the lock; `pid` is their process id, as far as they wrote it down."""

    def __init__(self, path: Path, pid: int | None) -> None:
        super().__init__(f"{path} is held by process {pid if pid is not None else 'unknown'}")
        self.pid = pid


@contextlib.contextmanager
def hold(path: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock on the file at `path`, made where needed, with this process's id in it.

    The kernel lets go of it however this process ends. Raises `Held` when it is not free within `wait_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + wait_s
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise Held(path, _pid_in(descriptor))
            time.sleep(_LOCK_LOOK_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder(path: Path) -> int | None:
    """The process id of who holds the lock on this file; `None` when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return None if _try_lock(descriptor) else _pid_in(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid_in(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0)
    return int(text) if text.isdigit() else None


class Order(StrEnum):
    """What a role may be told. DRAIN: end the work under way, workers included, then go. END: go, leave the workers.
    LEAVE: a successor is there; finish what goes on, then go.
    """

    DRAIN = "drain"
    LEAVE = "leave"
    END = "end"


class Lifeline:
    """A role's end of its lifeline."""

    def __init__(self) -> None:
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._rest = b""

    @classmethod
    def open(cls, descriptor: int) -> Lifeline:
        """Listen to the inherited reading end, in the running loop."""
        lifeline = cls()
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, lifeline._readable, descriptor)
        return lifeline

    def _readable(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, 4096)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(descriptor)
            self.end()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line in (Order.DRAIN.encode(), Order.LEAVE.encode()):
                self._orders.put_nowait(Order(line.decode()))

    def end(self) -> None:
        """As if the lifeline had ended: for signals that ask a role to go."""
        self._orders.put_nowait(Order.END)

    async def next(self) -> Order:
        """The next order."""
        return await self._orders.get()

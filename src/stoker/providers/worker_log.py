"""Reads what a shim has written: the tail of a worker's output, and what comes after it. Never writes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from stoker.providers.base import LogLine

LOOK_S = 0.1
READ_BYTES = 64 * 1024


def locked(path: Path) -> bool:
    """Does somebody hold an exclusive lock on this file? A shared lock asks, for a moment."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def parse(line: bytes) -> LogLine | None:
    """A stamped line; `None` for what is none (the end of a file that was cut)."""
    stamp, _, rest = line.partition(b" ")
    stream, _, text = rest.partition(b" ")
    try:
        return LogLine(float(stamp), stream.decode("ascii"), text.decode(errors="replace"))
    except ValueError:
        return None


async def read(
    folder: Path, gone: Path, *, tail: int, follow: bool, running: Callable[[], bool]
) -> AsyncIterator[LogLine]:
    """The last `tail` lines of a worker, in `folder` or, after its end, in `gone`; with `follow` those that come, until
    it is no longer `running` and all is read.
    """
    lines, file = await asyncio.to_thread(_tail, folder, gone, tail)
    try:
        for line in lines:
            yield line
        if not follow:
            return
        follower = _Follower(folder, file)
        file = None
        try:
            while True:
                ended = not await asyncio.to_thread(running)
                found = await asyncio.to_thread(follower.read)
                for line in found:
                    yield line
                if ended and not found:
                    return
                if not found:
                    await asyncio.sleep(LOOK_S)
        finally:
            follower.close()
    finally:
        if file is not None:
            os.close(file)


def _tail(folder: Path, gone: Path, count: int) -> tuple[list[LogLine], int | None]:
    """The last lines, and the current file at the end of what was read."""
    if not folder.is_dir():
        folder = gone
    kept: deque[LogLine] = deque(maxlen=count)
    current: int | None = None
    for name in ("log.1", "log"):
        try:
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        kept.extend(_lines(descriptor))
        if name == "log":
            current = descriptor
        else:
            os.close(descriptor)
    return list(kept), current


def _lines(descriptor: int) -> Iterator[LogLine]:
    """Whole lines from where the file stands; it is left standing at the end of the last one."""
    rest = b""
    while data := os.read(descriptor, READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            parsed = parse(line)
            if parsed is not None:
                yield parsed
    if rest:
        os.lseek(descriptor, -len(rest), os.SEEK_CUR)


class _Follower:
    """Reads on in a file, and in the one that takes its place when it is moved away."""

    def __init__(self, folder: Path, descriptor: int | None) -> None:
        self._path = folder / "log"
        self._descriptor = descriptor

    def read(self) -> list[LogLine]:
        """What has come since."""
        if self._descriptor is None:
            with contextlib.suppress(FileNotFoundError):
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        if self._descriptor is None:
            return []
        moved = self._moved()
        found = list(_lines(self._descriptor))
        if moved:
            # Looked at before the last read: nothing is written to the old file any more.
            os.close(self._descriptor)
            self._descriptor = None
            found += self.read()
        return found

    def _moved(self) -> bool:
        assert self._descriptor is not None
        try:
            return os.stat(self._path).st_ino != os.fstat(self._descriptor).st_ino
        except FileNotFoundError:
            return False

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

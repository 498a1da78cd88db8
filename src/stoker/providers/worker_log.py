"""Reads what a shim has written: the tail of a worker's output, and what comes after it. Never writes.

No file stays open between two looks, so that a reader who goes away leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from stoker.domain.worker import WorkerId
from stoker.providers.base import KeptOutput, LogLine

LOOK_S = 0.1
BLOCK_BYTES = 64 * 1024
# Of what has come since the last look, this much at once.
READ_BYTES_MAX = 1024 * 1024
# Enough to have a time in it, which no other file begins with.
HEAD_BYTES = 64
# The files may be rotated while they are being opened.
OPEN_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Position:
    """How far a reader has come: in which file, and where in it. The file's name does not tell, since it is rotated;
    nor does its inode alone, which may come back as that of a later file.
    """

    inode: int
    offset: int
    head: bytes

    @classmethod
    def at(cls, descriptor: int, offset: int) -> _Position:
        """There in that file."""
        return cls(os.fstat(descriptor).st_ino, offset, os.pread(descriptor, min(offset, HEAD_BYTES), 0))

    def within(self, descriptor: int) -> bool:
        """Is it a place in this file?"""
        return os.fstat(descriptor).st_ino == self.inode and os.pread(descriptor, len(self.head), 0) == self.head


def parse(line: bytes) -> LogLine | None:
    """A stamped line; `None` for what is none (the end of a file that was cut)."""
    stamp, _, rest = line.partition(b" ")
    stream, _, text = rest.partition(b" ")
    if stream not in (b"stdout", b"stderr"):
        return None
    try:
        return LogLine(float(stamp), stream.decode(), text.decode(errors="replace"))
    except ValueError:
        return None


async def read(
    places: tuple[Path, ...], *, tail: int, follow: bool, ended: Callable[[], bool]
) -> AsyncIterator[LogLine]:
    """The last `tail` lines of a worker, from the first of the folders `places` that has any; with `follow` those that
    come, until it has `ended` and all is read.
    """
    lines, position = await asyncio.to_thread(_tail, places, max(0, tail))
    for line in lines:
        yield line
    while follow:
        over, lines, position = await asyncio.to_thread(_look, places, position, ended)
        for line in lines:
            yield line
        if not lines:
            if over:
                return
            await asyncio.sleep(LOOK_S)


def kept(gone: Path) -> tuple[KeptOutput, ...]:
    """What lies in the folders of ended workers below `gone`."""
    found = []
    for folder in gone.iterdir():
        # Retention, or the end of another worker, may be faster.
        with contextlib.suppress(FileNotFoundError):
            files = [] if folder.name.startswith(".") else [path.stat() for path in folder.iterdir()]
            if files:
                size, at = sum(file.st_size for file in files), max(file.st_mtime for file in files)
                found.append(KeptOutput(WorkerId(folder.name), size, at))
    return tuple(found)


def _look(
    places: tuple[Path, ...], position: _Position | None, ended: Callable[[], bool]
) -> tuple[bool, list[LogLine], _Position | None]:
    # Asked before it is read: what a worker said at last is there by then.
    over = ended()
    lines, position = _since(places, position)
    return over, lines, position


def _tail(places: tuple[Path, ...], count: int) -> tuple[list[LogLine], _Position | None]:
    """The last lines, and where they end."""
    lines: list[bytes] = []
    position: _Position | None = None
    with _opened(places) as descriptors:
        for descriptor in reversed(descriptors):
            before, end = _last_lines(descriptor, count - len(lines))
            lines = before + lines
            position = position or _Position.at(descriptor, end)
    return list(_parsed(lines)), position


def _since(places: tuple[Path, ...], position: _Position | None) -> tuple[list[LogLine], _Position | None]:
    """What has come since then, up to a limit, and where that ends."""
    with _opened(places) as descriptors:
        for descriptor, offset in _unread(descriptors, position):
            lines, end = _whole_lines(descriptor, offset)
            if lines:
                return list(_parsed(lines)), _Position.at(descriptor, end)
    return [], position


def _unread(descriptors: list[int], position: _Position | None) -> list[tuple[int, int]]:
    """The files that may hold something new, oldest first, and from where on."""
    unread: list[tuple[int, int]] = []
    for descriptor in reversed(descriptors):
        if position is not None and position.within(descriptor):
            return [(descriptor, position.offset), *unread]
        unread.insert(0, (descriptor, 0))
    return unread


@contextlib.contextmanager
def _opened(places: tuple[Path, ...]) -> Iterator[list[int]]:
    """The files there are, the older one first, as they stood at one moment."""
    for attempt in range(1, OPEN_TRIES + 1):
        with ExitStack() as files:
            current = _open("log", places, files)
            older = _open("log.1", places, files)
            found = [descriptor for descriptor in (older, current) if descriptor is not None]
            # Otherwise it was rotated or put away between the two.
            steady = not found or (current is not None and _named(current, places))
            if steady or attempt == OPEN_TRIES:
                yield found
                return


def _open(name: str, places: tuple[Path, ...], files: ExitStack) -> int | None:
    for place in places:
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(place / name, os.O_RDONLY | os.O_CLOEXEC)
            files.callback(os.close, descriptor)
            return descriptor
    return None


def _named(descriptor: int, places: tuple[Path, ...]) -> bool:
    """Is this still the file that is called `log`?"""
    for place in places:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), (place / "log").stat())
    return False


def _last_lines(descriptor: int, count: int) -> tuple[list[bytes], int]:
    """The last whole lines of a file, read from its end, and where the last one ends."""
    size = start = os.fstat(descriptor).st_size
    blocks: list[bytes] = []
    ends = 0
    while start > 0 and ends <= count:
        length = min(BLOCK_BYTES, start)
        start -= length
        blocks.append(os.pread(descriptor, length, start))
        ends += blocks[-1].count(b"\n")
    *lines, rest = b"".join(reversed(blocks)).split(b"\n")
    return lines[-count:] if count else [], size - len(rest)


def _whole_lines(descriptor: int, offset: int) -> tuple[list[bytes], int]:
    """Whole lines from there on, and where they end."""
    *lines, rest = (data := os.pread(descriptor, READ_BYTES_MAX, offset)).split(b"\n")
    return lines, offset + len(data) - len(rest)


def _parsed(lines: list[bytes]) -> Iterator[LogLine]:
    return (line for line in map(parse, lines) if line is not None)

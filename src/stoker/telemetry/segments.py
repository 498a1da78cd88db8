"""Facts of single requests on disk: compressed blocks in segment files, one folder for each endpoint. Written by
control alone, read by usage, scaling and simulation. Nothing stays open between two calls.

A segment is `{milliseconds of its first fact}-{number}.seg`: blocks, one after the other, each with a head and a zlib
stream. A block that was torn by a crash ends its file for readers; a new writer never appends to an old file.
"""

from __future__ import annotations

import heapq
import os
import re
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import structlog

from stoker.domain.endpoint import EndpointId
from stoker.domain.usage import RequestFact

log = structlog.get_logger(__name__)

# A block is what a reader holds at least; beyond this it is written whatever its age.
BLOCK_FACTS_MAX: Final = 2_048
# What a crash of control may lose.
BLOCK_AGE_S: Final = 10.0
SEGMENT_BYTES: Final = 1024 * 1024
# Facts that wait for the disk, over all endpoints.
BUFFERED_MAX: Final = 200_000
PAYLOAD_BYTES_MAX: Final = 16 * 1024 * 1024

_MAGIC: Final = b"SKF1"
# Magic, checksum of all that follows, length of the payload, facts, first and last arrival in it.
_HEAD: Final = struct.Struct("<4sIIIdd")
_CHECKED_FROM: Final = 8
_NAME: Final = re.compile(r"(\d{13,})-(\d+)\.seg\Z")

_Row = tuple[float, float, float | None, float | None, int | None, int | None, int, str | None]
_decoder = msgspec.msgpack.Decoder(list[_Row])


@dataclass(slots=True)
class _Buffer:
    since: float
    facts: list[RequestFact] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Block:
    path: Path
    offset: int
    length: int
    checksum: int
    first_at: float
    last_at: float


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    bytes: int
    modified_at: float


class Segments:
    """The folder of all endpoints' segments. `append` is cheap; `flush` and `trim` write and belong in a thread, one
    of them at a time. `dropped` counts facts that came while too many waited for the disk.
    """

    def __init__(self, folder: Path, *, bytes_max: int, total_bytes_max: int, kept_s: float) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._total_bytes_max = total_bytes_max
        self._kept_s = kept_s
        self._buffers: dict[EndpointId, _Buffer] = {}
        self._buffered = 0
        # The file that this writer appends to, by endpoint.
        self._open: dict[EndpointId, Path] = {}
        self.dropped = 0

    def append(self, endpoint: EndpointId, facts: Iterable[RequestFact], *, now: float) -> None:
        """Take these in; they are on disk after a later `flush`."""
        buffer = self._buffers.get(endpoint) or self._buffers.setdefault(endpoint, _Buffer(now))
        for fact in facts:
            if self._buffered >= BUFFERED_MAX:
                self.dropped += 1
                continue
            buffer.facts.append(fact)
            self._buffered += 1

    def due(self, *, now: float, everything: bool = False) -> dict[EndpointId, list[RequestFact]]:
        """Hand out what should be written now: full blocks, and those that have waited long enough."""
        chosen = {
            endpoint: buffer.facts
            for endpoint, buffer in self._buffers.items()
            if everything or len(buffer.facts) >= BLOCK_FACTS_MAX or now - buffer.since >= BLOCK_AGE_S
        }
        for endpoint, facts in chosen.items():
            del self._buffers[endpoint]
            self._buffered -= len(facts)
        return chosen

    def write(self, due: dict[EndpointId, list[RequestFact]]) -> None:
        """Write what `due` gave. Raises `OSError`."""
        for endpoint, facts in due.items():
            for start in range(0, len(facts), BLOCK_FACTS_MAX):
                self._write_block(endpoint, facts[start : start + BLOCK_FACTS_MAX])

    def _write_block(self, endpoint: EndpointId, facts: list[RequestFact]) -> None:
        block = _packed(facts)
        path = self._open.get(endpoint)
        if path is None or not path.exists() or path.stat().st_size + len(block) > SEGMENT_BYTES:
            path = self._open[endpoint] = self._fresh(endpoint, min(fact.at for fact in facts))
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(descriptor, block)
        finally:
            os.close(descriptor)
        if written != len(block):
            # A full disk: what was written of it is torn, and nothing may follow it.
            del self._open[endpoint]
            raise OSError(f"only {written} of {len(block)} bytes could be written to {path}")

    def _fresh(self, endpoint: EndpointId, at: float) -> Path:
        folder = self._folder_of(endpoint)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        numbers = [int(found[2]) for path in folder.iterdir() if (found := _NAME.match(path.name))]
        return folder / f"{int(at * 1000):013d}-{max(numbers, default=0) + 1}.seg"

    def _folder_of(self, endpoint: EndpointId) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", endpoint):
            raise ValueError(f"{endpoint!r} cannot be an endpoint's id")
        return self._folder / endpoint

    # Reading

    def read(
        self, endpoint: EndpointId, *, since: float | None = None, until: float | None = None
    ) -> Iterator[RequestFact]:
        """The endpoint's facts on disk in the order of arrival, of those that came from `since` on and before `until`.
        Holds no more than the blocks that overlap in time.
        """
        return read(self._folder_of(endpoint), since=since, until=until)

    # Retention

    def trim(self, *, now: float, known: frozenset[EndpointId]) -> int:
        """Remove what is too old or too much, the oldest first, and everything of endpoints that are not `known`. The
        bytes that are left.
        """
        files: list[_File] = []
        for endpoint in self.endpoints():
            if endpoint not in known:
                shutil.rmtree(self._folder_of(endpoint), ignore_errors=True)
                self._open.pop(endpoint, None)
                continue
            files += self._trimmed(_files(self._folder_of(endpoint)), self._bytes_max, now)
        return sum(file.bytes for file in self._trimmed(files, self._total_bytes_max, now))

    def endpoints(self) -> tuple[EndpointId, ...]:
        """Those that have a folder."""
        with suppress(FileNotFoundError):
            return tuple(EndpointId(path.name) for path in sorted(self._folder.iterdir()) if path.is_dir())
        return ()

    def _trimmed(self, files: list[_File], bytes_max: int, now: float) -> list[_File]:
        kept, total = [], 0
        for file in sorted(files, key=lambda file: file.modified_at, reverse=True):
            total += file.bytes
            if total > bytes_max or now - file.modified_at > self._kept_s:
                file.path.unlink(missing_ok=True)
            else:
                kept.append(file)
        return kept


def _files(folder: Path) -> list[_File]:
    found = []
    for path in folder.iterdir():
        if _NAME.match(path.name):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append(_File(path, status.st_size, status.st_mtime))
    return found


def _packed(facts: list[RequestFact]) -> bytes:
    rows = [
        (f.at, f.wait_s, f.service_s, f.first_byte_s, f.prompt_tokens, f.completion_tokens, f.status, f.key)
        for f in facts
    ]
    payload = zlib.compress(msgspec.msgpack.encode(rows), 6)
    times = [fact.at for fact in facts]
    head = _HEAD.pack(_MAGIC, 0, len(payload), len(facts), min(times), max(times))
    checksum = zlib.crc32(payload, zlib.crc32(head[_CHECKED_FROM:]))
    return _HEAD.pack(_MAGIC, checksum, len(payload), len(facts), min(times), max(times)) + payload


def read(folder: Path, *, since: float | None = None, until: float | None = None) -> Iterator[RequestFact]:
    """As `Segments.read`, of one endpoint's folder."""
    blocks = sorted(_blocks(folder, since, until), key=lambda block: block.first_at)
    waiting: list[tuple[float, int, RequestFact]] = []
    number = 0
    for block in blocks:
        while waiting and waiting[0][0] < block.first_at:
            yield heapq.heappop(waiting)[2]
        for fact in _facts(block):
            if (since is None or fact.at >= since) and (until is None or fact.at < until):
                # The number keeps equal times in the order of the disk.
                number += 1
                heapq.heappush(waiting, (fact.at, number, fact))
    while waiting:
        yield heapq.heappop(waiting)[2]


def _blocks(folder: Path, since: float | None, until: float | None) -> Iterator[_Block]:
    if not folder.is_dir():
        return
    for file in sorted(_files(folder), key=lambda file: _order(file.path)):
        for block in _heads(file.path):
            if (since is None or block.last_at >= since) and (until is None or block.first_at < until):
                yield block


def _order(path: Path) -> tuple[int, int]:
    found = _NAME.match(path.name)
    assert found is not None
    return int(found[2]), int(found[1])


def _heads(path: Path) -> Iterator[_Block]:
    """The blocks of a file up to its end, or to the first that is not whole."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            offset = 0
            while offset + _HEAD.size <= size:
                file.seek(offset)
                head = file.read(_HEAD.size)
                magic, checksum, length, _, first_at, last_at = _HEAD.unpack(head)
                start = offset + _HEAD.size
                if magic != _MAGIC or length > PAYLOAD_BYTES_MAX or start + length > size:
                    break
                yield _Block(path, offset, length, checksum, first_at, last_at)
                offset = start + length
    except FileNotFoundError:
        # Retention has been faster.
        return


def _facts(block: _Block) -> list[RequestFact]:
    try:
        with block.path.open("rb") as file:
            file.seek(block.offset)
            data = file.read(_HEAD.size + block.length)
        if zlib.crc32(data[_CHECKED_FROM:]) != block.checksum:
            raise ValueError("its checksum is wrong")
        return [RequestFact(*row) for row in _decoder.decode(zlib.decompress(data[_HEAD.size :]))]
    except FileNotFoundError:
        return []
    except (ValueError, zlib.error, msgspec.DecodeError) as exc:
        log.warning("segment_block_damaged", file=str(block.path), offset=block.offset, error=str(exc))
        return []

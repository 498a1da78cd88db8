"""One file over HTTP: into a part file beside its place, resumed where it broke off, checked, then moved into place.

Resumes only what is certainly the same file: a range is asked for with `If-Range` and the ETag that the part was begun
with. Called by `stoker.models.fetcher`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from stoker.domain.models import FetchFailed

# As much as a disk likes to be given at once, and little enough for several downloads side by side.
BATCH_BYTES = 1024 * 1024
_DIGEST = re.compile(r'"?([0-9a-f]{64})"?\Z')
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)\Z")
RETRY_AFTER_MAX_S = 3_600.0


class Answer(Protocol):
    """What came back for one request."""

    status: int
    headers: Mapping[str, str]
    url: str

    def chunks(self, *, bytes_max: int) -> AsyncIterator[bytes]: ...

    async def body(self, *, bytes_max: int) -> bytes: ...


class Session(Protocol):
    """Opens URLs: `stoker.net.GuardedSession`, which refuses private addresses."""

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Answer]: ...


class Pace:
    """A limit on bytes a second, shared by all downloads. `None`: none."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    async def spend(self, count: int) -> None:
        """Wait until so many bytes fit."""
        if self._bytes_per_s is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + count / self._bytes_per_s
        await asyncio.sleep(self._free_at - now)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file to fetch: its place below the folder, and what is known of it beforehand. `blob_sha1` is what git calls
    it. With `digest_is_etag` an ETag that looks like a SHA-256 is one.
    """

    name: str
    url: str
    size: int | None = None
    sha256: str | None = None
    blob_sha1: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    digest_is_etag: bool = False


@dataclass(frozen=True, slots=True)
class Meter:
    """Whom a transfer tells: `sized(bytes)` of the file's whole size, which may refuse it, and `moved(bytes)` of every
    piece that is on disk, those that were there before included; after a fresh start negative.
    """

    sized: Callable[[int], Awaitable[None]]
    moved: Callable[[int], None]


async def transfer(
    session: Session, file: RemoteFile, folder: Path, *, bytes_max: int, pace: Pace, meter: Meter
) -> None:
    """Bring the file into place in `folder`, unless it is there. Raises `FetchFailed`, `Unavailable`, `UrlRefused`."""
    target = folder / file.name
    if await asyncio.to_thread(target.is_file):
        meter.moved(await asyncio.to_thread(lambda: target.stat().st_size))
        return
    part = await asyncio.to_thread(_Part.open, target, file)
    try:
        await _fill(session, file, part, bytes_max=bytes_max, pace=pace, meter=meter)
        await asyncio.to_thread(part.finish, file)
    finally:
        await asyncio.shield(asyncio.to_thread(part.close))


async def _fill(session: Session, file: RemoteFile, part: _Part, *, bytes_max: int, pace: Pace, meter: Meter) -> None:
    if file.size is not None and part.size == file.size:
        meter.moved(part.size)
        return
    headers = dict(file.headers)
    if part.size and part.etag:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.etag}
    async with session.request("GET", file.url, headers=headers) as answer:
        total = await _aligned(answer, file, part)
        if total is not None:
            await meter.sized(total)
        meter.moved(part.size)
        pending: list[bytes] = []
        held = 0
        async for chunk in answer.chunks(bytes_max=bytes_max):
            pending.append(chunk)
            held += len(chunk)
            await pace.spend(len(chunk))
            if held >= BATCH_BYTES:
                await asyncio.to_thread(part.write, pending)
                meter.moved(held)
                pending, held = [], 0
        await asyncio.to_thread(part.write, pending)
        meter.moved(held)
        if total is not None and part.size != total:
            raise FetchFailed(f"{answer.url.partition('?')[0]} sent {part.size} of {total} bytes")


async def _aligned(answer: Answer, file: RemoteFile, part: _Part) -> int | None:
    """Make the part begin where the answer does; the size of the whole file, if it is said."""
    etag = answer.headers.get("ETag")
    length = answer.headers.get("Content-Length")
    if answer.status == 206 and (found := _RANGE.match(answer.headers.get("Content-Range", ""))):
        if int(found[1]) == part.size:
            return None if found[3] == "*" else int(found[3])
        await asyncio.to_thread(part.restart, None)
        raise FetchFailed("the server sent another part than was asked for; the next try begins anew")
    if answer.status == 416:
        await asyncio.to_thread(part.restart, None)
        raise FetchFailed("the file is shorter than what is here of it; the next try begins anew")
    if answer.status != 200:
        raise refused(answer)
    # All of it from its beginning: it has changed, or this server knows no parts.
    await asyncio.to_thread(part.restart, etag)
    if file.digest_is_etag and file.sha256 is None and (etag or answer.headers.get("X-Linked-Etag")):
        found = _DIGEST.match(answer.headers.get("X-Linked-Etag") or etag or "")
        part.expect_sha256(found[1] if found else None)
    return int(length) if length is not None and length.isdigit() else file.size


def refused(answer: Answer) -> FetchFailed:
    """What a status other than success means, and what to do about it."""
    where = answer.url.partition("?")[0][:200]
    match answer.status:
        case 401 | 403:
            return FetchFailed(
                f"{where} answers {answer.status}: it needs a token, or one that may read this: put it into a secret "
                "(stoker secrets set NAME) and add the model with --token-secret NAME",
                permanent=True,
            )
        case 404 | 410:
            return FetchFailed(f"{where} answers {answer.status}: check the name, file and revision", permanent=True)
        case status if status == 429 or status >= 500:
            text = answer.headers.get("Retry-After", "")
            after_s = min(RETRY_AFTER_MAX_S, float(text)) if text.isascii() and text.isdigit() else None
            return FetchFailed(f"{where} answers {answer.status}", after_s=after_s)
    return FetchFailed(f"{where} answers {answer.status}, which is no download", permanent=True)


class _Part:
    """A part file with the digest of what is in it. Its methods block."""

    def __init__(self, target: Path, file: RemoteFile) -> None:
        self._target = target
        self._path = target.with_name(target.name + ".part")
        self._about = target.with_name(target.name + ".part.json")
        self._file = file
        self._expected = file.sha256
        self.etag: str | None = None
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._descriptor = -1

    @classmethod
    def open(cls, target: Path, file: RemoteFile) -> _Part:
        """What an earlier try has left of it, or an empty one."""
        part = cls(target, file)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part._descriptor = os.open(part._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError, ValueError, KeyError):
            about = json.loads(part._about.read_text(encoding="utf-8"))
            if about["url"] == file.url:
                part.etag, part._expected = about["etag"], about["sha256"] or file.sha256
        if part.etag is None:
            os.ftruncate(part._descriptor, 0)
        while chunk := os.read(part._descriptor, BATCH_BYTES):
            part._sha256.update(chunk)
            part.size += len(chunk)
        return part

    def restart(self, etag: str | None) -> None:
        """Begin anew, with a file that the server calls `etag`. A weak one proves nothing about bytes."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.size, self._sha256 = 0, hashlib.sha256()
        self.etag = None if etag is None or etag.startswith("W/") else etag
        self._describe()

    def expect_sha256(self, digest: str | None) -> None:
        """What the server says that the whole is."""
        self._expected = self._expected or digest
        self._describe()

    def _describe(self) -> None:
        about = {"url": self._file.url, "etag": self.etag, "sha256": self._expected}
        aside = self._about.with_name(self._about.name + ".new")
        aside.write_text(json.dumps(about), encoding="utf-8")
        aside.replace(self._about)

    def write(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._sha256.update(chunk)
            self.size += len(chunk)

    def finish(self, file: RemoteFile) -> None:
        """Check the whole and put it into its place. One that is not what it should be is removed."""
        problem = self._problem(file)
        if problem is not None:
            self._path.unlink(missing_ok=True)
            self._about.unlink(missing_ok=True)
            raise FetchFailed(problem, permanent=True)
        os.fsync(self._descriptor)
        self._path.replace(self._target)
        self._about.unlink(missing_ok=True)

    def _problem(self, file: RemoteFile) -> str | None:
        if file.size is not None and self.size != file.size:
            return f"{file.name} has {self.size} bytes instead of {file.size}"
        if self._expected is not None and self._sha256.hexdigest() != self._expected:
            return (
                f"{file.name} has the SHA-256 {self._sha256.hexdigest()} instead of {self._expected}: it is not what "
                "was meant, or was altered on its way; check the sum, then: stoker models pull"
            )
        if self._expected is None and file.blob_sha1 is not None and self._blob_sha1() != file.blob_sha1:
            return f"{file.name} is not what the repository has under that name; try again: stoker models pull"
        return None

    def _blob_sha1(self) -> str:
        digest = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        while chunk := os.read(self._descriptor, BATCH_BYTES):
            digest.update(chunk)
        return digest.hexdigest()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

"""Asks gateways to make attempts of tasks, over the Unix sockets that they have for that; see `docs/attempts.md`.

An attempt belongs to the gateway that was asked first, its `holder`, which is the name of that socket. A socket that
nobody listens at any more proves that its gateway is gone, and the attempt with it.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec
from yarl import URL

from stoker.domain.errors import Unavailable
from stoker.domain.task import INLINE_BYTES_MAX, Body, Task
from stoker.queue.spool import Spool

CONNECTIONS_MAX = 1_500
ANSWER_S = 30.0
PIECE_BYTES = 256 * 1024
_GONE = frozenset({errno.ECONNREFUSED, errno.ENOENT})
_STATE_BYTES_MAX = 64 * 1024


class GatewayGone(Exception):
    """Nobody listens at the holder's socket: the attempts that it had are over."""


class Seen(Enum):
    """What is known of an attempt. REFUSED: no worker has it, nor had. UNKNOWN: its gateway knows of none such."""

    RUNNING = "running"
    ANSWERED = "answered"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """An attempt as it was seen. `status`, `content_type` and `body` are the worker's, of an answer. `kept`: its
    gateway remembers it until it is acknowledged, so that its id stands for nothing else until then.
    """

    seen: Seen
    kept: bool = True
    reason: str = ""
    worker: str | None = None
    status: int | None = None
    content_type: str | None = None
    retry_after_s: float | None = None
    body: Body | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """An answer while it arrives. Reading `pieces` raises `Unavailable` when there will be no whole one."""

    content_type: str | None
    pieces: AsyncIterator[bytes]


class Attempts(Protocol):
    """What the dispatcher asks of gateways. All raise `GatewayGone`, and `Unavailable` when it is worth another try."""

    async def begin(self, holder: str, task: Task, body: bytes) -> Sight:
        """Begin the attempt `task.lease`; once begun, this begins nothing more."""

    async def look(self, holder: str, lease: str, *, wait_s: float) -> Sight:
        """What became of it; after `wait_s` seconds at the latest."""

    def output(self, holder: str, lease: str, offset: int) -> AbstractAsyncContextManager[Output | None]:
        """Its answer from there on, while it arrives; `None` when there is none, nor will be."""

    async def abort(self, holder: str, lease: str) -> None:
        """End it; its worker sees the connection close."""

    async def acknowledge(self, holder: str, lease: str) -> None:
        """Its result is recorded."""

    async def close(self) -> None:
        """Let go of all connections."""


class SocketAttempts:
    """The real one: sockets in the folder `run`."""

    def __init__(self, run: Path, spool: Spool) -> None:
        self._run = run
        self._spool = spool
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    def _session(self, holder: str) -> aiohttp.ClientSession:
        session = self._sessions.get(holder)
        if session is None:
            connector = aiohttp.UnixConnector(str(self._run / holder), limit=CONNECTIONS_MAX)
            session = self._sessions[holder] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return session

    @asynccontextmanager
    async def _ask(
        self,
        holder: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        wait_s: float | None = 0.0,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        read_s = None if wait_s is None else ANSWER_S + wait_s
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_S, sock_read=read_s)
        url = URL(f"http://gateway{path}", encoded=True)
        try:
            async with self._session(holder).request(
                method, url, headers=headers, data=body, timeout=timeout
            ) as response:
                yield response
        except aiohttp.ClientConnectorError as exc:
            if exc.os_error.errno in _GONE:
                await self._forget(holder)
                raise GatewayGone(holder) from exc
            raise Unavailable(f"the gateway does not answer: {exc}") from exc
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise Unavailable(f"the gateway does not answer: {exc or type(exc).__name__}") from exc

    async def _forget(self, holder: str) -> None:
        session = self._sessions.pop(holder, None)
        if session is not None:
            await session.close()

    async def begin(self, holder: str, task: Task, body: bytes) -> Sight:
        query = URL.build(
            query={
                "endpoint": task.endpoint,
                "method": task.method,
                "target": task.target,
                "total_s": f"{task.execution_timeout_s:g}",
                "task": task.id,
                "attempt": str(task.attempts + 1),
                "delivery": str(task.deliveries),
                "port": "" if task.port is None else str(task.port),
            }
        ).raw_query_string
        headers = {"Host": "localhost", **dict(task.headers)}
        if task.content_type:
            headers["Content-Type"] = task.content_type
        async with self._ask(holder, "POST", f"/attempts/{task.lease}?{query}", headers=headers, body=body) as response:
            said = await _document(response)
            if response.status in (200, 202):
                return Sight(seen=Seen(said.get("state", "running")), worker=_text(said.get("worker")))
            reason = response.headers.get("X-Stoker-Reason") or f"status {response.status}"
            # What makes no sense to this gateway makes none to the next either.
            return Sight(seen=Seen.FAILED if response.status == 400 else Seen.REFUSED, reason=reason, kept=False)

    async def look(self, holder: str, lease: str, *, wait_s: float) -> Sight:
        path = f"/attempts/{lease}?wait_s={wait_s:g}"
        async with self._ask(holder, "GET", path, wait_s=wait_s) as response:
            if response.status == 404:
                return Sight(seen=Seen.UNKNOWN)
            if response.status != 200:
                raise Unavailable(f"the gateway answered with status {response.status}")
            seen = Seen(response.headers["X-Stoker-Attempt"])
            if seen is not Seen.ANSWERED:
                said = await _document(response)
                return Sight(seen=seen, reason=_text(said.get("reason")) or "", worker=_text(said.get("worker")))
            return Sight(
                seen=seen,
                worker=response.headers.get("X-Stoker-Attempt-Worker"),
                status=int(response.headers["X-Stoker-Attempt-Status"]),
                content_type=response.headers.get("Content-Type"),
                retry_after_s=_seconds(response.headers.get("Retry-After")),
                body=await self._body(response),
            )

    async def _body(self, response: aiohttp.ClientResponse) -> Body:
        first = b""
        async for piece in response.content.iter_chunked(PIECE_BYTES):
            first += piece
            if len(first) > INLINE_BYTES_MAX:
                break
        if len(first) <= INLINE_BYTES_MAX:
            return Body(size=len(first), inline=first)
        # The gateway has the whole of it already, and bounds it.
        rest = [first] + [piece async for piece in response.content.iter_chunked(PIECE_BYTES)]
        return await self._spool.keep_pieces(rest)

    @asynccontextmanager
    async def output(self, holder: str, lease: str, offset: int) -> AsyncIterator[Output | None]:
        # A worker may say nothing for as long as its task may take.
        async with self._ask(holder, "GET", f"/attempts/{lease}/output?from={offset}", wait_s=None) as response:
            if response.status != 200:
                yield None
            else:
                yield Output(response.headers.get("Content-Type"), _pieces(response))

    async def abort(self, holder: str, lease: str) -> None:
        async with self._ask(holder, "POST", f"/attempts/{lease}/abort", body=b"") as response:
            await response.read()

    async def acknowledge(self, holder: str, lease: str) -> None:
        async with self._ask(holder, "DELETE", f"/attempts/{lease}") as response:
            await response.read()

    async def close(self) -> None:
        for holder in tuple(self._sessions):
            await self._forget(holder)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_any():
            yield piece
    except (aiohttp.ClientError, OSError) as exc:
        raise Unavailable(f"the answer was cut: {exc or type(exc).__name__}") from exc


async def _document(response: aiohttp.ClientResponse) -> dict[str, object]:
    raw = await response.content.read(_STATE_BYTES_MAX)
    while more := await response.content.read(_STATE_BYTES_MAX):
        raw += more
        if len(raw) > _STATE_BYTES_MAX:
            raise Unavailable("the gateway says more than it should")
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError as exc:
        raise Unavailable("the gateway said what is no JSON") from exc
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 9 else None

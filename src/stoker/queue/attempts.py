"""Asks gateways to make attempts of tasks, over the Unix sockets that they have for that; see `docs/attempts.md`.

An attempt belongs to the gateway that was asked first, its `holder`, which is the name of that socket. A socket that
nobody listens at any more proves that its gateway is gone, and the attempt with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from stoker.domain.errors import Unavailable
from stoker.domain.task import INLINE_BYTES_MAX, Body, EndedAttempt, Task
from stoker.queue.pipes import Pipe, PipeBroken, Reply
from stoker.queue.spool import Spool
from stoker.queue.watches import GONE, Watch

CONNECTIONS_MAX = 1_500
ANSWER_S = 30.0
PIECE_BYTES = 256 * 1024
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
        self._pipes: dict[str, Pipe] = {}
        self._watches: dict[str, Watch] = {}
        self._connecting: dict[str, asyncio.Lock] = {}

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
            if exc.os_error.errno in GONE:
                await self._forget(holder)
                raise GatewayGone(holder) from exc
            raise Unavailable(f"the gateway does not answer: {exc}") from exc
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise Unavailable(f"the gateway does not answer: {exc or type(exc).__name__}") from exc

    async def _forget(self, holder: str) -> None:
        session, pipe = self._sessions.pop(holder, None), self._pipes.pop(holder, None)
        watch = self._watches.pop(holder, None)
        self._connecting.pop(holder, None)
        if session is not None:
            await session.close()
        if pipe is not None:
            pipe.close()
        if watch is not None:
            await watch.close()

    # Small requests share one connection; what may be large has one of its own.

    async def _pipe(self, holder: str) -> Pipe:
        pipe = self._pipes.get(holder)
        if pipe is not None and not pipe.broken:
            return pipe
        lock = self._connecting.setdefault(holder, asyncio.Lock())
        async with lock:
            pipe = self._pipes.get(holder)
            if pipe is None or pipe.broken:
                try:
                    pipe = self._pipes[holder] = await Pipe.connect(self._run / holder)
                except OSError as exc:
                    if exc.errno in GONE:
                        await self._forget(holder)
                        raise GatewayGone(holder) from exc
                    raise Unavailable(f"the gateway does not answer: {exc}") from exc
            return pipe

    async def _piped(self, holder: str, method: str, target: str, *, lines: str = "", body: bytes = b"") -> Reply:
        pipe = await self._pipe(holder)
        try:
            return await pipe.ask(method, target, lines=lines, body=body, timeout_s=ANSWER_S)
        except PipeBroken as exc:
            raise Unavailable(f"the gateway does not answer: {exc}") from exc

    def _watch(self, holder: str) -> Watch:
        watch = self._watches.get(holder)
        if watch is None or watch.gone:
            watch = self._watches[holder] = Watch(self._run / holder)
        return watch

    async def begin(self, holder: str, task: Task, body: bytes) -> Sight:
        assert task.lease is not None
        target, headers = _begin_target(task), dict(task.headers)
        if task.content_type:
            headers["Content-Type"] = task.content_type
        # Before it can have ended.
        self._watch(holder).expect(task.lease)
        if len(body) > INLINE_BYTES_MAX:
            own = {"Host": "localhost", **headers}
            async with self._ask(holder, "POST", target, headers=own, body=body) as response:
                raw = await response.content.read(_STATE_BYTES_MAX)
                status, reason = response.status, response.headers.get("X-Stoker-Reason")
        else:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            reply = await self._piped(holder, "POST", target, lines=lines, body=body)
            raw, status, reason = reply.body, reply.status, reply.headers.get("x-stoker-reason")
        if status in (200, 202):
            said = _decoded(raw)
            sight = Sight(seen=Seen(said.get("state", "running")), worker=_text(said.get("worker")))
            if sight.seen is Seen.RUNNING:
                return sight
            # It had begun before, and nobody heard of it: all that is known of its end is asked for.
            self._watch(holder).forget(task.lease)
            return await self._looked(holder, task.lease)
        self._watch(holder).forget(task.lease)
        # What makes no sense to this gateway makes none to the next either.
        seen = Seen.FAILED if status == 400 else Seen.REFUSED
        return Sight(seen=seen, reason=reason or f"status {status}", kept=False)

    async def look(self, holder: str, lease: str, *, wait_s: float) -> Sight:
        watch = self._watch(holder)
        known = watch.knows(lease)
        ended = watch.expect(lease)
        if not known or wait_s <= 0:
            # It may have ended before anybody here waited for it.
            sight = await self._looked(holder, lease)
            if sight.seen is not Seen.RUNNING or wait_s <= 0:
                watch.forget(lease)
                return sight
        done, _ = await asyncio.wait([ended], timeout=wait_s)
        if not done:
            # Nothing for long: perhaps it is known no more.
            return await self._looked(holder, lease)
        told = ended.result()
        watch.forget(lease)
        if told is None:
            await self._forget(holder)
            raise GatewayGone(holder)
        if told.state == "answered" and told.body is None:
            # A long answer has a connection of its own.
            return await self._looked(holder, lease)
        return _sight_of(told)

    async def _looked(self, holder: str, lease: str) -> Sight:
        async with self._ask(holder, "GET", f"/attempts/{lease}?wait_s=0") as response:
            if response.status == 404:
                return Sight(seen=Seen.UNKNOWN)
            if response.status != 200:
                raise Unavailable(f"the gateway answered with status {response.status}")
            seen = Seen(response.headers["X-Stoker-Attempt"])
            if seen is not Seen.ANSWERED:
                said = _decoded(await response.content.read(_STATE_BYTES_MAX))
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
        await self._piped(holder, "POST", f"/attempts/{lease}/abort")

    async def acknowledge(self, holder: str, lease: str) -> None:
        await self._piped(holder, "DELETE", f"/attempts/{lease}")

    async def close(self) -> None:
        for holder in {*self._sessions, *self._pipes, *self._watches}:
            await self._forget(holder)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_any():
            yield piece
    except (aiohttp.ClientError, OSError) as exc:
        raise Unavailable(f"the answer was cut: {exc or type(exc).__name__}") from exc


def _begin_target(task: Task) -> str:
    query = {
        "endpoint": task.endpoint,
        "method": task.method,
        "target": task.target,
        "total_s": f"{task.execution_timeout_s:g}",
        "task": task.id,
        "attempt": str(task.attempts + 1),
        "delivery": str(task.deliveries),
        "port": "" if task.port is None else str(task.port),
    }
    return f"/attempts/{task.lease}?{urlencode(query)}"


def _sight_of(told: EndedAttempt) -> Sight:
    if told.state != "answered":
        return Sight(seen=Seen(told.state), reason=told.reason, worker=told.worker)
    return Sight(
        seen=Seen.ANSWERED,
        worker=told.worker,
        status=told.status,
        content_type=told.content_type,
        retry_after_s=_seconds(told.retry_after),
        body=Body(size=told.size, inline=told.body),
    )


def _decoded(raw: bytes) -> dict[str, object]:
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError as exc:
        raise Unavailable("the gateway said what is no JSON") from exc
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 9 else None

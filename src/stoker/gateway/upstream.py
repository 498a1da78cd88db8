"""Connections to workers and to control: one HTTP exchange at a time each, kept idle between them.

Knows nothing of admission or clients. `gateway.exchange` is the only user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, Protocol, cast

import httptools
import structlog

from stoker.gateway.head import HEAD_BYTES_MAX, BadAnswer, Headers

log = structlog.get_logger(__name__)

READ_BYTES: Final = 64 * 1024
# Longer than most servers keep an idle connection: those close it first, and the close is seen before the next use.
IDLE_S_MAX: Final = 60.0
# Control's server closes after five; a request that must not be sent twice cannot be saved by a second try.
UNIX_IDLE_S_MAX: Final = 2.0
IDLE_CONNECTIONS_MAX: Final = 256


class UpstreamUser(Protocol):
    """The exchange that a connection serves. `answer_data` may be called many times before `flush`; no call may close
    or reuse the connection but those that end the exchange.
    """

    def connected(self, upstream: Upstream) -> None: ...

    def connect_failed(self, detail: str) -> None: ...

    def interim(self, status: int, headers: Headers) -> None: ...

    def answer_began(self, status: int, headers: Headers) -> bool:
        """The head of the answer. True when its body lasts until the connection ends. Raises `BadAnswer`."""

    def answer_data(self, data: bytes) -> None: ...

    def answer_ended(self, *, reusable: bool) -> None: ...

    def flush(self) -> None: ...

    def upstream_lost(self, detail: str) -> None: ...

    def upstream_blocked(self) -> None: ...

    def upstream_writable(self) -> None: ...


class Upstream(asyncio.BufferedProtocol):
    """One connection. `fresh`: nothing was ever sent on it before the present request; `answered`: at least one byte
    of the present answer has come.
    """

    __slots__ = (
        "_complete",
        "_dirty",
        "_head_bytes",
        "_head_request",
        "_headers",
        "_in_head",
        "_interim",
        "_keep_alive",
        "_parser",
        "_paused",
        "_transport",
        "_until_close",
        "_view",
        "answered",
        "fresh",
        "idle_since",
        "pool",
        "user",
    )

    def __init__(self, pool: Pool, view: memoryview) -> None:
        self.pool = pool
        self.user: UpstreamUser | None = None
        self.fresh = True
        self.answered = False
        self.idle_since = 0.0
        self._view = view
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._parser = httptools.HttpResponseParser(self)
        self._reset(head_request=False)

    def _reset(self, *, head_request: bool) -> None:
        self.answered = False
        self._headers: Headers = []
        self._head_bytes = 0
        self._head_request = head_request
        self._in_head = True
        self._interim = False
        self._complete = False
        self._dirty = False
        self._keep_alive = False
        self._until_close = False

    # --- for the exchange ---

    def begin(self, user: UpstreamUser, *, head_request: bool) -> None:
        """The connection now serves this user, who will `write` one request."""
        self.user = user
        self._reset(head_request=head_request)

    def write(self, data: bytes) -> None:
        """Send; when too much is unsent, `upstream_blocked` is called."""
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Stop reading the answer: the client does not keep up."""
        if self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Let go of it at once; the user hears nothing more."""
        self.user = None
        if self._transport is not None:
            self._transport.abort()

    def give_back(self, now: float) -> None:
        """The exchange is over and the connection can serve another."""
        self.user = None
        self.fresh = False
        # The last of the answer may have come together with the client's falling behind.
        self.resume_reading()
        self.idle_since = now
        self.pool.keep(self)

    @property
    def usable(self) -> bool:
        """Still open, as far as is known?"""
        return self._transport is not None and not self._transport.is_closing()

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        user = self.user
        if user is None:
            # Nobody asked for anything: whatever this is, it must not become the answer to the next request.
            self.abort()
            return
        self.answered = True
        try:
            self._parser.feed_data(self._view[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            if not self._complete:
                self._fail(f"it does not speak HTTP: {_reason(exc)}")
                return
            self._dirty = True
        if self.user is not user:
            return
        if self._complete:
            self._end(user)
        elif self._in_head:
            self._head_bytes += nbytes
            if self._head_bytes > HEAD_BYTES_MAX:
                self._fail("the head of its answer is too long")
        else:
            user.flush()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        user, self.user = self.user, None
        self.pool.forget(self)
        if user is None:
            return
        if self._until_close and not self._in_head and exc is None:
            user.answer_ended(reusable=False)
        else:
            user.upstream_lost("it closed the connection" if exc is None else str(exc))

    def pause_writing(self) -> None:
        if self.user is not None:
            self.user.upstream_blocked()

    def resume_writing(self) -> None:
        if self.user is not None:
            self.user.upstream_writable()

    # --- httptools ---

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._headers.append((name, value))
        elif self._complete:
            self._dirty = True

    def on_headers_complete(self) -> None:
        user = self.user
        if self._complete or user is None:
            self._dirty = True
            return
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        if status < 200:
            self._interim = True
            user.interim(status, headers)
            return
        self._in_head = False
        self._until_close = user.answer_began(status, headers)
        if self._head_request:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if self._complete or self.user is None:
            self._dirty = True
        else:
            self.user.answer_data(data)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._complete:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()

    def _end(self, user: UpstreamUser) -> None:
        if self._head_request:
            # The parser waits for the body that the head announces and that will not come.
            self._parser = httptools.HttpResponseParser(self)
        user.answer_ended(reusable=self._keep_alive and not self._dirty)

    def _fail(self, detail: str) -> None:
        user = self.user
        self.abort()
        if user is not None:
            user.upstream_lost(detail)


def _reason(exc: Exception) -> str:
    cause = exc.__context__
    if isinstance(exc, httptools.HttpParserCallbackError) and not isinstance(cause, BadAnswer):
        log.error("answer_not_handled", exc_info=cause)
    return str(cause or exc)


class Pool:
    """The connections to one address: a host and port, or the path of a Unix socket."""

    __slots__ = ("_address", "_closed", "_idle", "_idle_s_max", "_upstreams")

    def __init__(self, upstreams: Upstreams, address: tuple[str, int] | Path, *, idle_s_max: float) -> None:
        self._upstreams = upstreams
        self._idle_s_max = idle_s_max
        self._address = address
        self._idle: list[Upstream] = []
        self._closed = False

    def take(self) -> Upstream | None:
        """The idle connection used last, or `None`."""
        while self._idle:
            upstream = self._idle.pop()
            if upstream.usable:
                return upstream
        return None

    def open(self, user: UpstreamUser) -> asyncio.Task[None]:
        """Connect; ends with `connected` or `connect_failed`, unless the task is cancelled."""
        return self._upstreams.spawn(self._open(user))

    async def _open(self, user: UpstreamUser) -> None:
        upstream = Upstream(self, self._upstreams.view)
        loop = asyncio.get_running_loop()
        try:
            if isinstance(self._address, Path):
                await loop.create_unix_connection(lambda: upstream, str(self._address))
            else:
                await loop.create_connection(lambda: upstream, *self._address)
        except OSError as exc:
            user.connect_failed(str(exc))
        except asyncio.CancelledError:
            upstream.abort()
            raise
        else:
            user.connected(upstream)

    def keep(self, upstream: Upstream) -> None:
        """Keep it for the next request, if there is reason to."""
        if self._closed or not upstream.usable or len(self._idle) >= IDLE_CONNECTIONS_MAX:
            upstream.abort()
        else:
            self._idle.append(upstream)

    def forget(self, upstream: Upstream) -> None:
        """It is closed."""
        if upstream in self._idle:
            self._idle.remove(upstream)

    def close(self) -> None:
        """Close what is idle now and, when its exchange ends, what is busy."""
        self._closed = True
        self._close(self._idle)
        self._idle = []

    def sweep(self, now: float) -> None:
        """Close connections that were idle for long."""
        stale = [upstream for upstream in self._idle if now - upstream.idle_since > self._idle_s_max]
        if stale:
            self._idle = [upstream for upstream in self._idle if now - upstream.idle_since <= self._idle_s_max]
            self._close(stale)

    def _close(self, upstreams: list[Upstream]) -> None:
        for upstream in upstreams:
            upstream.abort()


class Addressed(Protocol):
    """A worker, as far as connections are concerned."""

    @property
    def id(self) -> str: ...

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


class Upstreams:
    """All pools, by worker and address; owner of the tasks that open connections."""

    def __init__(self) -> None:
        # One buffer for all connections: a read is parsed before the next one starts.
        self.view = memoryview(bytearray(READ_BYTES))
        self._pools: dict[tuple[str, str, int], Pool] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def pool(self, worker: Addressed) -> Pool:
        """The pool of a worker at its address."""
        key = (worker.id, worker.host, worker.port)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(self, (worker.host, worker.port), idle_s_max=IDLE_S_MAX)
        return pool

    def unix_pool(self, path: Path) -> Pool:
        """A pool for a Unix socket, which the caller keeps."""
        return Pool(self, path, idle_s_max=UNIX_IDLE_S_MAX)

    def drop(self, worker: Addressed) -> None:
        """The worker has gone, or moved: its idle connections with it. Exchanges go on."""
        pool = self._pools.pop((worker.id, worker.host, worker.port), None)
        if pool is not None:
            pool.close()

    def sweep(self, now: float) -> None:
        """Close connections that were idle for long."""
        for pool in self._pools.values():
            pool.sweep(now)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it, and hold on to it until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("connecting_failed", exc_info=exc)

    def close(self) -> None:
        """Close everything idle and stop connecting."""
        for task in tuple(self._tasks):
            task.cancel()
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

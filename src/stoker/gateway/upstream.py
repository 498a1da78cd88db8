"""Connections to workers and to control: one HTTP exchange at a time each, kept idle between them.

Knows nothing of admission or clients. `gateway.exchange` is the only user.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final, Protocol, cast

import httptools
import structlog

from stoker.gateway.head import HEAD_BYTES_MAX, Headers
from stoker.gateway.repeats import REPEAT_BYTES_MAX, VAIN_MAX, KnownAnswer
from stoker.gateway.response import BadAnswer, ResponseHead

log = structlog.get_logger(__name__)

READ_BYTES: Final = 64 * 1024
# What a worker may have sent before it closed its end on an upload: an answer that is saved, up to this much of it.
SALVAGED_BYTES_MAX: Final = 4 * 1024 * 1024


class UpstreamUser(Protocol):
    """The exchange that a connection serves. `answer_data` may be called many times before `flush`; no call may close
    or reuse the connection but those that end the exchange.
    """

    def connected(self, upstream: Upstream) -> None: ...

    def connect_failed(self, detail: str) -> None: ...

    def interim(self, status: int, headers: Headers) -> None: ...

    def answer_began(self, status: int, headers: Headers) -> ResponseHead:
        """The head of the answer; as it is to be passed on. Raises `BadAnswer`."""

    def answer_again(self, head: ResponseHead, body: bytes) -> None:
        """A head as `answer_began` made it before, and all of a body. Called instead of it, before `answer_ended`."""

    def switches(self, headers: Headers) -> bool:
        """A 101. True when the request asked for that; then `switched` follows, with what came after it."""

    def switched(self, early: bytes) -> None: ...

    def answer_data(self, data: bytes) -> None: ...

    def answer_trailer(self, name: bytes, value: bytes) -> None: ...

    def answer_ended(self, *, reusable: bool) -> None: ...

    def flush(self) -> None: ...

    def upstream_lost(self, detail: str) -> None: ...

    def upstream_blocked(self) -> None: ...

    def upstream_writable(self) -> None: ...


class Home(Protocol):
    """Where a connection belongs while it is idle: a `gateway.pools.Pool`."""

    def keep(self, upstream: Upstream) -> None: ...

    def forget(self, upstream: Upstream) -> None: ...


class Upstream(asyncio.BufferedProtocol):
    """One connection. `fresh`: nothing was ever sent on it before the present request; `answered`: at least one byte
    of the present answer has come. `keep_alive_s`: how long the other end says that it keeps it when idle.
    """

    __slots__ = (
        "_complete",
        "_dirty",
        "_head",
        "_head_bytes",
        "_head_request",
        "_headers",
        "_in_head",
        "_interim",
        "_keep_alive",
        "_known",
        "_parser",
        "_paused",
        "_sandboxed",
        "_switched",
        "_transport",
        "_until_close",
        "_vain",
        "_view",
        "answered",
        "fresh",
        "idle_since",
        "keep_alive_s",
        "pool",
        "user",
    )

    def __init__(self, pool: Home, view: memoryview) -> None:
        self.pool = pool
        self.user: UpstreamUser | None = None
        self.fresh = True
        self.answered = False
        self.idle_since = 0.0
        self.keep_alive_s: float | None = None
        self._switched = False
        self._view = view
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._parser = httptools.HttpResponseParser(self)
        self._known: KnownAnswer | None = None
        # Heads that were remembered and did not come again.
        self._vain = 0
        self._reset(head_request=False, sandboxed=False)

    def _reset(self, *, head_request: bool, sandboxed: bool) -> None:
        self.answered = False
        self._sandboxed = sandboxed
        self._head: ResponseHead | None = None
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

    def begin(self, user: UpstreamUser, *, head_request: bool, sandboxed: bool = False) -> None:
        """The connection now serves this user, who will `write` one request."""
        self.user = user
        self._reset(head_request=head_request, sandboxed=sandboxed)

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
        if self._paused:
            # The last of the answer may have come together with the client's falling behind.
            self.resume_reading()
        self.idle_since = now
        self.pool.keep(self)

    def detach(self) -> asyncio.Transport | None:
        """The transport of a connection that speaks HTTP no more, for another protocol. `None`: it is closed."""
        self.user = None
        transport, self._transport = self._transport, None
        return transport

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
        first = not self.answered
        self.answered = True
        whole = first and nbytes <= REPEAT_BYTES_MAX and not self._head_request
        if whole and self._known is not None:
            known = self._known.read(bytes(self._view[:nbytes]), sandboxed=self._sandboxed)
            if known is not None:
                self._vain = 0
                self._complete = True
                user.answer_again(*known)
                user.answer_ended(reusable=True)
                return
        try:
            self._parser.feed_data(self._view[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            if self._switched:
                user.switched(bytes(self._view[exc.args[0] : nbytes]))
                return
            if not self._complete:
                self._fail(f"it does not speak HTTP: {_reason(exc)}")
                return
            self._dirty = True
        if self.user is not user:
            return
        if self._complete:
            if whole and self._vain < VAIN_MAX and self._keep_alive and not self._dirty:
                self._remember(bytes(self._view[:nbytes]))
            self._end(user)
        elif self._in_head:
            self._head_bytes += nbytes
            if self._head_bytes > HEAD_BYTES_MAX:
                self._fail("the head of its answer is too long")
        else:
            user.flush()

    def _remember(self, message: bytes) -> None:
        self._vain += 1
        known = None if self._head is None else KnownAnswer.of(message, self._head, sandboxed=self._sandboxed)
        self._known = known if self._vain < VAIN_MAX else None

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self._transport = self._transport, None
        self.pool.forget(self)
        if exc is not None and self.user is not None and transport is not None:
            self._salvage(transport)
        user, self.user = self.user, None
        if user is None:
            return
        if self._until_close and not self._in_head and exc is None:
            user.answer_ended(reusable=False)
        else:
            user.upstream_lost("it closed the connection" if exc is None else str(exc))

    def _salvage(self, transport: asyncio.Transport) -> None:
        # A worker that answers an upload early and closes resets the connection; sending more then fails, while its
        # answer may lie unread. Its descriptor is still open here, and what had arrived can still be read.
        connection = transport.get_extra_info("socket")
        if connection is None:
            return
        for _ in range(SALVAGED_BYTES_MAX // len(self._view)):
            try:
                size = os.readv(connection.fileno(), [self._view])
            except OSError:
                # Nothing left, or nothing but the reset.
                return
            if size == 0:
                return
            self.buffer_updated(size)
            if self.user is None:
                return

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
        elif self._complete or self.user is None:
            self._dirty = True
        else:
            self.user.answer_trailer(name, value)

    def on_headers_complete(self) -> None:
        user = self.user
        if self._complete or user is None:
            self._dirty = True
            return
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        if status < 200:
            self._interim = True
            self._switched = status == 101 and user.switches(headers)
            if not self._switched:
                user.interim(status, headers)
            return
        self._in_head = False
        self._head = user.answer_began(status, headers)
        self._until_close = self._head.until_close
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

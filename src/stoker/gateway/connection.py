"""A client's connection: requests in, answers out in the same order, keep-alive, back-pressure both ways.

Knows nothing of endpoints: what to do with a request is the `Router`'s business, who answers it a `Conversation`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Final, Protocol, cast

import httptools
import structlog

from stoker.gateway import answers
from stoker.gateway.answers import Answer
from stoker.gateway.head import (
    CONTINUE,
    HEAD_BYTES_MAX,
    BadHead,
    Headers,
    Request,
    ResponseHead,
    interim_head,
    read_request,
)

log = structlog.get_logger(__name__)

HEAD_S_MAX: Final = 30.0
IDLE_S_MAX: Final = 75.0
# After the last answer of a connection whose request was not read to its end: time for the client to read the answer
# before the unread rest resets the connection.
LINGER_S: Final = 2.0
CLOSE_S_MAX: Final = 30.0

# Reasons for not reading.
_BODY: Final = 1
_PIPELINE: Final = 2

# The states of struct tcp_info in which the other end still has the connection open: ESTABLISHED, SYN_RECV.
_TCP_OPEN: Final = (1, 3)


class Conversation(Protocol):
    """Whoever answers the present request."""

    def body_arrived(self) -> None: ...

    def gone(self) -> None: ...

    def downstream_blocked(self) -> None: ...

    def downstream_writable(self) -> None: ...


class Router(Protocol):
    """Decides what becomes of a request. `now` is the event loop's time at the last sweep."""

    now: float
    draining: bool
    view: memoryview

    def handle(self, client: ClientConnection, request: Request) -> None:
        """Answer the request, now or later: `client.converse` or `client.answer`."""

    def opened(self, client: ClientConnection) -> bool:
        """A client has connected. False: there are too many."""

    def closed(self, client: ClientConnection) -> None: ...


class ClientConnection(asyncio.BufferedProtocol):
    """One connection of a client; the `Downstream` of its exchanges. One exchange at a time."""

    __slots__ = (
        "_began",
        "_blocked",
        "_chunked",
        "_close_after",
        "_closing_at",
        "_conversation",
        "_ended",
        "_headers",
        "_in_head",
        "_out",
        "_parser",
        "_pauses",
        "_reading",
        "_requests",
        "_router",
        "_running",
        "_silent_bytes",
        "_since",
        "_spanning",
        "_target",
        "_transport",
        "_upgrade",
        "_view",
        "peer",
    )

    def __init__(self, router: Router) -> None:
        self.peer = b""
        self._router = router
        self._view = router.view
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        # The request at the head of the queue is the one being answered.
        self._requests: deque[Request] = deque()
        self._reading: Request | None = None
        self._conversation: Conversation | None = None
        self._target = b""
        self._headers: Headers = []
        self._in_head = True
        self._upgrade = False
        self._ended = False
        self._silent_bytes = 0
        self._spanning = False
        self._pauses = 0
        self._blocked = False
        self._running = False
        self._out: list[bytes] = []
        self._began = False
        self._chunked = False
        self._close_after = False
        self._since = router.now
        self._closing_at: float | None = None

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]).encode() if isinstance(peer, tuple) and peer else b"unknown"
        if not self._router.opened(self):
            transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        if self._ended or self._closing_at is not None:
            return
        if not self._silent_bytes:
            self._since = self._router.now
        self._silent_bytes += nbytes
        self._feed(self._view[:nbytes])
        if self._target:
            self._spanning = True
        if self._silent_bytes > HEAD_BYTES_MAX and not self._ended:
            self._refuse(BadHead(431, f"the head of a request has at most {HEAD_BYTES_MAX} bytes"))
        if len(self._requests) > 1:
            self._pause(_PIPELINE)
        if self._conversation is None:
            self._run()
        else:
            self._conversation.body_arrived()

    def eof_received(self) -> bool:
        # A client that closes and one that only ends its sending look alike; the former is by far the usual one.
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.gone()
            self.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._closing_at = self._router.now
        self._router.closed(self)
        conversation, self._conversation = self._conversation, None
        self._requests.clear()
        if conversation is not None:
            conversation.gone()

    def pause_writing(self) -> None:
        self._blocked = True
        if self._conversation is not None:
            self._conversation.downstream_blocked()

    def resume_writing(self) -> None:
        self._blocked = False
        if self._conversation is not None:
            self._conversation.downstream_writable()
        else:
            self._run()

    # --- reading requests ---

    def _feed(self, data: memoryview) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                data = data[exc.args[0] :]
                self._skip_upgrade()
                if data:
                    continue
            except httptools.HttpParserError as exc:
                self._parsing_failed(exc)
            return

    def _skip_upgrade(self) -> None:
        # llhttp takes what follows for another protocol. To this gateway it is the body that the head announced: a new
        # parser is told the same framing, and its report of that head is not heard.
        self._upgrade = False
        request = self._reading
        if request is None:
            return
        framing = b"Transfer-Encoding: chunked" if request.chunked else b"Content-Length: %d" % (request.length or 0)
        self._parser = httptools.HttpRequestParser(self)
        self._in_head = False
        self._ended = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        self._ended = request.complete and not request.keep_alive

    def _parsing_failed(self, exc: Exception) -> None:
        cause = exc.__context__
        if isinstance(exc, httptools.HttpParserCallbackError) and not isinstance(cause, BadHead):
            log.error("request_not_handled", exc_info=cause)
            self._refuse(BadHead(500, "the gateway could not read this request"))
        elif not self._ended:
            self._refuse(cause if isinstance(cause, BadHead) else BadHead(400, str(exc)))

    def _refuse(self, error: BadHead) -> None:
        """Nothing more can be read from this client; `error` is the answer, after those that are due before."""
        self._ended = True
        request = self._reading
        self._reading = None
        if request is not None and self._requests and self._requests[0] is request and self._conversation is not None:
            # Its head was fine and it is being answered; the body that follows makes no sense.
            conversation, self._conversation = self._conversation, None
            conversation.gone()
            if self._began:
                self.abort()
                return
        elif request is None or not self._requests or self._requests[-1] is not request:
            request = Request(b"GET", b"/", persistent=True, keep_alive=False)
            self._requests.append(request)
        request.error = error
        request.keep_alive = False

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        headers, self._headers = self._headers, []
        target, self._target = self._target, b""
        if self._ended:
            return
        if self._spanning:
            # One that came in a single read cannot be longer than that read.
            self._spanning = False
            size = len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
            if size > HEAD_BYTES_MAX:
                raise BadHead(431, f"the head of a request has at most {HEAD_BYTES_MAX} bytes")
        self._silent_bytes = 0
        self._in_head = False
        request = read_request(
            parser.get_method(),
            target,
            headers,
            version=parser.get_http_version(),
            keep_alive=parser.should_keep_alive(),
        )
        self._upgrade = parser.should_upgrade()
        self._reading = request
        self._requests.append(request)

    def on_body(self, data: bytes) -> None:
        self._silent_bytes = 0
        request = self._reading
        if request is not None:
            request.pending.append(data)
            request.pending_bytes += len(data)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._silent_bytes = 0
        request = self._reading
        if request is None or (self._upgrade and request.has_body):
            return
        request.complete = True
        self._reading = None
        if not request.keep_alive:
            self._ended = True

    # --- answering them in order ---

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        while self._requests and self._conversation is None and not self._blocked and self._closing_at is None:
            request = self._requests[0]
            self._began = False
            if request.error is not None:
                self._answer_bad(request.error)
            else:
                self._router.handle(self, request)
        self._running = False

    def _answer_bad(self, error: BadHead) -> None:
        self.answer(answers.failure(error.status, "bad_request", error.detail, openai=False))

    def converse(self, conversation: Conversation) -> None:
        """From now on this one answers the present request."""
        self._conversation = conversation
        if self._blocked:
            conversation.downstream_blocked()

    def go_on(self) -> None:
        """The body is wanted: answer `Expect: 100-continue`."""
        self._send(CONTINUE)

    def interim(self, status: int, headers: Headers) -> None:
        """Pass on a 1xx, to clients that know them."""
        if self._requests[0].persistent and not self._out:
            self._send(interim_head(status, headers))

    def begin(self, head: ResponseHead) -> None:
        """The head of the answer; it leaves with the first `flush`."""
        request = self._requests[0]
        self._began = True
        unknown = head.length is None and not head.bodyless and head.status != 204
        self._chunked = unknown and request.persistent
        keep = request.keep_alive and not self._router.draining and not (unknown and not request.persistent)
        self._close_after = not keep
        connection = None
        if not keep:
            connection = b"close"
        elif not request.persistent:
            connection = b"keep-alive"
        self._out.append(head.to_bytes(chunked=self._chunked, connection=connection))

    def write(self, data: bytes) -> None:
        """A piece of the answer's body."""
        if self._chunked:
            self._out.append(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._out.append(data)

    def flush(self) -> None:
        """Send what was written since."""
        out = self._out
        if out:
            self._out = []
            self._send(out[0] if len(out) == 1 else b"".join(out))

    def finish(self) -> None:
        """The answer is complete; on to the next request."""
        if self._chunked:
            self._out.append(b"0\r\n\r\n")
            self._chunked = False
        self.flush()
        if not self._requests:
            return
        request = self._requests.popleft()
        self._conversation = None
        self._since = self._router.now
        if not request.complete:
            self._linger()
        elif self._close_after:
            if request.keep_alive or request.error is not None:
                self._linger()
            else:
                self._close()
        else:
            self._unpause(_BODY if len(self._requests) > 1 else _BODY | _PIPELINE)
            self._run()

    def answer(self, answer: Answer) -> None:
        """The gateway's own answer to the present request, which ends it."""
        request = self._requests[0]
        head = answer.head
        if not request.complete:
            request.keep_alive = False
        self.begin(head)
        if request.method != b"HEAD":
            self._out.append(answer.body)
        self.finish()

    def abort(self) -> None:
        """Cut the connection so that the client sees it: its answer is not complete."""
        self._conversation = None
        self._out = []
        if self._transport is not None:
            self._transport.abort()

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    # --- back-pressure, looking, closing ---

    def pause_body(self) -> None:
        """Read no more of the request's body for now."""
        self._pause(_BODY)

    def resume_body(self) -> None:
        """Go on reading it."""
        if self._pauses & _BODY:
            self._unpause(_BODY)

    def _pause(self, reason: int) -> None:
        if not self._pauses and self._transport is not None:
            self._transport.pause_reading()
        self._pauses |= reason

    def _unpause(self, reasons: int) -> None:
        if self._pauses:
            self._pauses &= ~reasons
            if not self._pauses and self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def alive(self) -> bool:
        """Is the client still there? While nothing is read, neither its end nor a reset would be noticed."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if not self._pauses:
            return True
        connection = transport.get_extra_info("socket")
        if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
            return True
        state: bytes = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
        return state[0] in _TCP_OPEN

    def shut_idle(self) -> None:
        """Close it if nothing is under way; else it closes after the answer."""
        if not self._requests and self._reading is None:
            self._close()

    def sweep(self, now: float) -> None:
        """Called every few seconds: bounds on a head's arrival, on idleness and on closing."""
        if self._closing_at is not None:
            over_s = now - self._closing_at
            if over_s > CLOSE_S_MAX or (over_s > LINGER_S and self._ended and self._drained()):
                self.abort()
        elif self._conversation is None and not self._requests:
            if self._silent_bytes and now - self._since > HEAD_S_MAX:
                self._refuse(BadHead(408, f"the head of a request takes at most {HEAD_S_MAX:g} s"))
                self._run()
            elif now - self._since > IDLE_S_MAX:
                self._close()

    def _drained(self) -> bool:
        return self._transport is None or self._transport.get_write_buffer_size() == 0

    def _close(self) -> None:
        self._closing_at = self._router.now
        self._ended = True
        if self._transport is not None:
            self._transport.close()

    def _linger(self) -> None:
        """Close, but read on for a moment: unread bytes would turn the close into a reset that overtakes the answer."""
        self._closing_at = self._router.now
        self._ended = True
        self._requests.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
            self._pauses = 0
            self._transport.resume_reading()

"""Requests out of the bytes of one connection: llhttp's callbacks, bounds on heads, and what to do with nonsense.

No sockets and no answers: `gateway.connection` feeds it and looks at `requests`.
"""

from __future__ import annotations

from collections import deque

import httptools
import structlog

from stoker.gateway.head import HEAD_BYTES_MAX, HEADERS_MAX, BadHead, Headers, Request, read_request, trailer_line
from stoker.gateway.repeats import REPEAT_BYTES_MAX, VAIN_MAX, KnownRequest

log = structlog.get_logger(__name__)


class RequestReader:
    """Reads requests, in order, into `requests`; the one whose body still comes is the last of them.

    `ended`: nothing more is read, because of `Connection: close` or because it makes no sense; then the last request
    carries an `error`, or the first one is `broken`: its head was fine and is being answered, its body is nonsense.
    `partial`: a request has begun whose end is not there yet. `held`: what came after a request for a WebSocket, which
    is no HTTP should it be granted; `None` when there is no such request. `release` says that it was not.
    """

    __slots__ = (
        "_headers",
        "_in_head",
        "_known",
        "_parser",
        "_reading",
        "_silent_bytes",
        "_spanning",
        "_target",
        "_upgrade",
        "_vain",
        "ended",
        "held",
        "requests",
    )

    def __init__(self) -> None:
        self.requests: deque[Request] = deque()
        self.ended = False
        self.held: bytes | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._reading: Request | None = None
        self._target = b""
        self._headers: Headers = []
        self._in_head = True
        self._upgrade = False
        # Bytes since the parser last reported progress: of a head, of trailers or of the framing of chunks.
        self._silent_bytes = 0
        self._spanning = False
        self._known: KnownRequest | None = None
        # Heads that were remembered and did not come again; below zero before the first request: it may be the only.
        self._vain = -1

    @property
    def partial(self) -> bool:
        """Has a request begun that is not complete?"""
        return self._silent_bytes > 0 or self._reading is not None

    def feed(self, data: memoryview) -> None:
        """Take in what was read, at most `HEAD_BYTES_MAX` at once."""
        if self.held is not None:
            self.held += bytes(data)
            return
        if not (self._silent_bytes or self._reading or self.ended) and len(data) <= REPEAT_BYTES_MAX:
            self._feed_message(data)
        else:
            self._feed(data)

    def _feed_message(self, data: memoryview) -> None:
        """This begins a request, and most times it is one, with the head of the one before."""
        known = self._known
        if known is not None:
            request = known.read(bytes(data))
            if request is not None:
                self._vain = 0
                self.requests.append(request)
                return
        count = len(self.requests)
        self._feed(data)
        if self._vain < VAIN_MAX:
            self._vain += 1
            if self._vain == VAIN_MAX:
                self._known = None
            elif self._vain and len(self.requests) == count + 1:
                self._known = KnownRequest.of(bytes(data), self.requests[-1])

    def forget(self) -> None:
        """The connection is idle: what is remembered of its last request is not worth its memory."""
        self._known = None

    def _feed(self, data: memoryview) -> None:
        self._silent_bytes += len(data)
        self._parse(data)
        if self._target:
            self._spanning = True
        if self._silent_bytes > HEAD_BYTES_MAX and not self.ended:
            self.fail(BadHead(431, f"the head of a request has at most {HEAD_BYTES_MAX} bytes"))

    def release(self) -> None:
        """The WebSocket was not granted: what was held is HTTP."""
        held, self.held = self.held, None
        if held:
            self.feed(memoryview(held))

    def _parse(self, data: memoryview) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                data = data[exc.args[0] :]
                if self._reading is None and self.requests and self.requests[-1].upgrade:
                    self.held = bytes(data)
                    self._silent_bytes = 0
                    return
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
        self.ended = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        self.ended = request.complete and not request.keep_alive

    def _parsing_failed(self, exc: Exception) -> None:
        cause = exc.__context__
        if isinstance(exc, httptools.HttpParserCallbackError) and not isinstance(cause, BadHead):
            log.error("request_not_handled", exc_info=cause)
            self.fail(BadHead(500, "the gateway could not read this request"))
        elif not self.ended:
            self.fail(cause if isinstance(cause, BadHead) else BadHead(400, str(exc)))

    def fail(self, error: BadHead) -> None:
        """Nothing more can be read; `error` is the answer to the request being read, or to one that never was."""
        self.ended = True
        request, self._reading = self._reading, None
        if request is None:
            request = Request(b"GET", b"/", persistent=True, keep_alive=False)
            self.requests.append(request)
        request.error = error
        request.keep_alive = False

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._headers.append((name, value))
        elif self._reading is not None:
            self._trailer(self._reading, name, value)

    def _trailer(self, request: Request, name: bytes, value: bytes) -> None:
        trailers = request.trailers
        if trailers is None:
            trailers = request.trailers = []
        if len(trailers) >= HEADERS_MAX:
            raise BadHead(431, f"at most {HEADERS_MAX} trailers")
        if (line := trailer_line(name, value)) is not None:
            trailers.append(line)

    def on_headers_complete(self) -> None:
        parser = self._parser
        headers, self._headers = self._headers, []
        target, self._target = self._target, b""
        if self.ended:
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
        if request.upgrade:
            # Any other protocol, or one asked for with a body or by HTTP/1.0, is not spoken here: a plain request then.
            asked = self._upgrade and request.persistent and request.method == b"GET"
            request.upgrade = asked and not request.has_body
        self._reading = request
        self.requests.append(request)

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
            self.ended = True

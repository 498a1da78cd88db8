"""A client's connection: requests in, answers out in the same order, keep-alive, back-pressure both ways.

Knows nothing of endpoints: what to do with a request is the `Router`'s business, who answers it a `Conversation`.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, cast

from stoker.gateway import answers
from stoker.gateway.answers import Answer
from stoker.gateway.forwarded import Peer
from stoker.gateway.head import BadHead, Headers
from stoker.gateway.parties import Conversation, Router
from stoker.gateway.reading import RequestReader
from stoker.gateway.response import CONTINUE, ResponseHead, interim_head

HEAD_S_MAX: Final = 30.0
IDLE_S_MAX: Final = 75.0
# A connection that has been idle for so long keeps nothing of its last request.
FORGET_S: Final = 5.0
# After the last answer of a connection whose request was not read to its end: time for the client to read the answer
# before the unread rest resets the connection.
LINGER_S: Final = 2.0
CLOSE_S_MAX: Final = 30.0

# Reasons for not reading.
_BODY: Final = 1
_PIPELINE: Final = 2
_MOVING: Final = 4

# The states of struct tcp_info in which the other end still has the connection open: ESTABLISHED, SYN_RECV.
_TCP_OPEN: Final = (1, 3)

# Until a connection is made, or for one without an address.
_NOBODY: Final = Peer("unknown", secure=False, networks=())


class ClientConnection(asyncio.BufferedProtocol):
    """One connection of a client; the `Downstream` of its exchanges. One exchange at a time."""

    __slots__ = (
        "_began",
        "_blocked",
        "_chunked",
        "_close_after",
        "_closing_at",
        "_conversation",
        "_out",
        "_pauses",
        "_reader",
        "_requests",
        "_router",
        "_running",
        "_since",
        "_stays",
        "_trailers",
        "_transport",
        "_view",
        "peer",
    )

    def __init__(self, router: Router[ClientConnection], *, relayed: str | None = None) -> None:
        """`relayed`: a gateway on its way out passes on what the client at this address says over TLS, until the next
        answer ends it.
        """
        self.peer = _NOBODY if relayed is None else Peer(relayed, secure=True, networks=router.trusted)
        self._stays = relayed is None
        self._router = router
        self._view = router.view
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader()
        # The request at the head of the queue is the one being answered.
        self._requests = self._reader.requests
        self._conversation: Conversation | None = None
        self._pauses = 0
        self._blocked = False
        self._running = False
        self._out: list[bytes] = []
        self._began = False
        self._chunked = False
        self._trailers: list[bytes] | None = None
        self._close_after = False
        self._since = router.now
        self._closing_at: float | None = None

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple) and peer:
            secure = transport.get_extra_info("sslcontext") is not None
            self.peer = Peer(str(peer[0]), secure=secure, networks=self._router.trusted)
        if not self._router.opened(self):
            self.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        if self._reader.ended or self._closing_at is not None:
            return
        if not self._reader.partial:
            self._since = self._router.now
        self._reader.feed(self._view[:nbytes])
        if len(self._requests) > 1 or self._reader.held:
            self._pause(_PIPELINE)
        conversation = self._conversation
        if conversation is None:
            self._run()
        elif self._requests[0].error is None:
            conversation.body_arrived()
        else:
            self._break_off(conversation)

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

    def _break_off(self, conversation: Conversation) -> None:
        # The head of the present request was fine, the body that follows makes no sense.
        self._conversation = None
        conversation.gone()
        if self._began:
            self.abort()
        else:
            self._run()

    # --- answering in order ---

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while self._requests and self._conversation is None and not self._blocked and self._closing_at is None:
                request = self._requests[0]
                self._began = False
                if request.error is not None:
                    self._answer_bad(request.error)
                else:
                    self._router.handle(self, request)
        finally:
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
        unknown = head.length is None and not head.bodyless
        self._chunked = unknown and request.persistent
        keep = request.keep_alive and self._stays and not (unknown and not request.persistent)
        if keep and self._router.draining:
            # What moves to the successor goes on there.
            keep = self._router.successor is not None and self._movable()
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

    def trailer(self, line: bytes) -> None:
        """A trailer of the answer; clients that get no chunks get none."""
        if self._chunked:
            if self._trailers is None:
                self._trailers = []
            self._trailers.append(line)

    def flush(self) -> None:
        """Send what was written since."""
        out = self._out
        if out:
            self._out = []
            self._send(out[0] if len(out) == 1 else b"".join(out))

    def finish(self) -> None:
        """The answer is complete; on to the next request."""
        if self._chunked:
            self._chunked = False
            if self._trailers is None:
                self._out.append(b"0\r\n\r\n")
            else:
                self._out.append(b"0\r\n%b\r\n" % b"".join(self._trailers))
                self._trailers = None
        self.flush()
        if not self._requests:
            return
        request = self._requests.popleft()
        self._conversation = None
        self._since = self._router.now
        if request.upgrade:
            self._reader.release()
        leaving = self._router.successor is not None
        ends = self._close_after or (self._router.draining and not leaving and not self._requests)
        if ends or not request.complete:
            self._linger(unread=not request.complete or request.error is not None)
        else:
            if self._pauses:
                self._unpause(_BODY if len(self._requests) > 1 else _BODY | _PIPELINE)
            if self._requests:
                self._run()
            elif leaving and not self._reader.partial:
                # What comes from now on is for the successor to read. The answer has yet to leave.
                self._pause(_MOVING)
                asyncio.get_running_loop().call_soon(self.shut_idle)

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

    def switch(self, head: bytes) -> tuple[asyncio.Transport, bytes] | None:
        """Answer a request for a WebSocket with this 101 and hand over the transport, with what came since the request.

        `None` when the client has gone. It is still told of the transport's end.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return None
        held, self._reader.held = self._reader.held or b"", None
        if head:
            transport.write(head)
        if self._pauses:
            self._pauses = 0
            transport.resume_reading()
        return transport, held

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

    @property
    def begins(self) -> bool:
        """Has a request begun of which nothing is known yet?"""
        return not self._requests and self._reader.partial

    @property
    def address(self) -> str:
        """The client's."""
        return self.peer.address.decode()

    def _movable(self) -> bool:
        # TLS knows no half-closes, and what it knows of a connection cannot be moved.
        return self._transport is not None and self._transport.can_write_eof()

    def shut_idle(self) -> None:
        """If nothing is under way, pass it on to the successor, or close it where there is none; else that happens
        after the answer.
        """
        transport = self._transport
        if self._requests or self._reader.partial:
            return
        successor = self._router.successor
        if transport is None or successor is None or successor.gone:
            self.close()
        elif self._closing_at is not None or self._conversation is not None:
            # Passed on already, or about to end.
            return
        elif not self._movable():
            successor.relay(self)
        else:
            self._pause(_MOVING)
            # One with something still to be sent is looked at again with the next sweep.
            if not transport.get_write_buffer_size():
                successor.move(transport.get_extra_info("socket").fileno(), "" if self._stays else self.address)
                # Its transport ends a little later: nobody may look at it as one at rest until then.
                self._closing_at = self._router.now
                self.abort()

    def sweep(self, now: float) -> None:
        """Called every few seconds: bounds on a head's arrival, on idleness and on closing."""
        if self._closing_at is not None:
            over_s = now - self._closing_at
            if over_s > CLOSE_S_MAX or (over_s > LINGER_S and self._drained()):
                self.abort()
        elif self._conversation is None and not self._requests:
            if self._reader.partial and now - self._since > HEAD_S_MAX:
                self._reader.fail(BadHead(408, f"the head of a request takes at most {HEAD_S_MAX:g} s"))
                self._run()
            elif now - self._since > IDLE_S_MAX:
                self.close()
            elif self._pauses & _MOVING:
                self.shut_idle()
            elif now - self._since > FORGET_S:
                self._reader.forget()

    def _drained(self) -> bool:
        return self._transport is None or self._transport.get_write_buffer_size() == 0

    def close(self) -> None:
        """Close it when what was written has been sent."""
        self._closing_at = self._router.now
        if self._transport is not None:
            self._transport.close()

    def _linger(self, *, unread: bool) -> None:
        """Close, but read on for a moment: bytes that nobody reads would turn the close into a reset that overtakes the
        answer. TLS knows no half-closes: there only while the rest of a request is to be expected.
        """
        self._closing_at = self._router.now
        self._requests.clear()
        if self._transport is not None and not self._transport.is_closing():
            if self._transport.can_write_eof():
                self._transport.write_eof()
            elif not unread:
                self._transport.close()
                return
            self._pauses = 0
            self._transport.resume_reading()

"""One request, from admission to the last byte of its answer. Knows its client only as a `Downstream`.

Whatever ends it - answer, failure, deadline, the client's leaving - goes through `_over`, which releases the slot.
"""

from __future__ import annotations

import asyncio
from typing import Final

from stoker.gateway import answers
from stoker.gateway.admission import REST_S, Admission, Refusal, Turn, Worker
from stoker.gateway.answers import Answer
from stoker.gateway.budget import Share
from stoker.gateway.head import Headers, Request
from stoker.gateway.ledger import CLIENT_LEFT, Trace
from stoker.gateway.parties import Downstream, Hub, Limits
from stoker.gateway.pools import Pool
from stoker.gateway.quotas import Quota
from stoker.gateway.response import ResponseHead, read_response, switching_head, trailer_line
from stoker.gateway.tunnel import Tunnel
from stoker.gateway.upload import first_piece, next_piece
from stoker.gateway.upstream import READ_BYTES, Upstream

# What of a body is held while nobody takes it, and what is kept for sending it a second time.
BODY_HELD_BYTES_MAX: Final = 64 * 1024

_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})

_WAITING: Final = 0
_CONNECTING: Final = 1
_SENDING: Final = 2
_ANSWERING: Final = 3
_TUNNELLING: Final = 4
_OVER: Final = 5


class Exchange:
    """One request. With an `admission` it is inference and asks for a slot; without, it goes to control.

    `port` is the declared one that a task goes to, where it is not the worker's main one.
    `head` is the upstream's head without framing. `key` is the id of the key that it came with. `sandboxed`: the answer
    is a page on the main host.
    """

    __slots__ = (
        "_active_at",
        "_admission",
        "_gateway",
        "_head",
        "_limits",
        "_openai",
        "_opening",
        "_pool",
        "_port",
        "_quota",
        "_resent",
        "_sandboxed",
        "_sent",
        "_sent_bytes",
        "_share",
        "_started_at",
        "_state",
        "_trace",
        "_tunnel",
        "_turn",
        "_upstream",
        "_whole",
        "downstream",
        "request",
    )

    def __init__(
        self,
        gateway: Hub,
        request: Request,
        downstream: Downstream,
        head: bytes,
        limits: Limits,
        *,
        admission: Admission | None = None,
        key: str | None = None,
        pin: str | None = None,
        quota: Quota | None = None,
        sandboxed: bool = False,
        openai: bool = False,
        task: bool = False,
        port: int | None = None,
    ) -> None:
        self.request = request
        self.downstream = downstream
        self._gateway = gateway
        self._head = head
        self._limits = limits
        self._admission = admission
        self._turn: Turn | None = None
        if admission is not None:
            hold_s = 0.0 if task else request.hold_s
            self._turn = Turn(self, hold_s=hold_s, pin=pin, session=request.session, hint=request.worker, task=task)
        self._port = port
        self._quota = quota
        self._share: Share | None = None
        self._sandboxed = sandboxed
        self._openai = openai
        self._state = _WAITING
        self._pool: Pool | None = None
        self._opening: asyncio.Task[None] | None = None
        self._upstream: Upstream | None = None
        # Of a WebSocket: the 101 to pass on, then the tunnel.
        self._tunnel: bytes | Tunnel | None = None
        self._resent = False
        # The last byte of the body has gone up.
        self._whole = False
        # The body as sent so far, for a second try; `None` once it is too long or an answer has begun.
        # A request to control that changes something is never sent twice.
        again = admission is not None or request.method in _IDEMPOTENT
        self._sent: list[bytes] | None = [] if again else None
        self._sent_bytes = 0
        self._active_at = gateway.now
        self._started_at: float | None = None
        self._trace = Trace(key)

    # --- going, waiting, refused ---

    def start(self) -> None:
        """Ask for a slot, or go straight to control."""
        self._gateway.live.add(self)
        if self._admission is None:
            self._go(self._gateway.control_pool)
            return
        assert self._turn is not None
        self._settle(self._admission.enter(self._turn, self._gateway.time()))

    def _settle(self, outcome: Worker | Refusal | None) -> None:
        if isinstance(outcome, Worker):
            self.admitted(outcome)
        elif outcome is not None:
            self.refused(outcome)
        else:
            self._state = _WAITING
            self._hold_body()

    def admitted(self, worker: Worker) -> None:
        """Admission has given it a slot of this worker."""
        if self._share is not None:
            self._share.let_go()
        self._trace.admitted_at = self._gateway.time()
        place = worker if self._port is None else worker.at(self._port)
        if place is not None:
            self._go(self._gateway.upstreams.pool(place))
            return
        self._trace.refused(503)
        self._over(failed=False)
        detail = f"this worker has no port that was declared as {self._port}"
        self.downstream.answer(answers.failure(503, "worker_unavailable", detail, openai=self._openai))

    def refused(self, refusal: Refusal) -> None:
        """Admission will not serve it."""
        admission = self._admission
        starting_s = None if admission is None or admission.workers else admission.entry.expected_start_s
        answer = answers.refused(refusal, openai=self._openai, starting_s=starting_s)
        self._trace.refused(answer.head.status)
        self._over(failed=False)
        self.downstream.answer(answer)

    def _go(self, pool: Pool) -> None:
        self._pool = pool
        self._active_at = self._gateway.now
        if self._started_at is None:
            self._started_at = self._active_at
        upstream = pool.take(self._active_at)
        if upstream is not None:
            self._send(upstream)
        else:
            self._connect(pool)

    def _connect(self, pool: Pool) -> None:
        self._state = _CONNECTING
        self._opening = pool.open(self)
        self._hold_body()

    def _hold_body(self) -> None:
        request = self.request
        if not request.pending_bytes:
            return
        if not request.complete and request.pending_bytes + READ_BYTES > BODY_HELD_BYTES_MAX:
            self.downstream.pause_body()
        if self._share is None:
            self._share = Share(self._gateway.budget)
        if not self._share.hold(request.pending_bytes):
            self._trace.refused(503)
            self._over(failed=False)
            self.downstream.answer(answers.no_memory(openai=self._openai))

    def connected(self, upstream: Upstream) -> None:
        """A new connection is there."""
        self._opening = None
        if self._state == _CONNECTING:
            self._send(upstream)
        else:
            upstream.abort()

    def connect_failed(self, detail: str) -> None:
        """No connection: another worker, the waiting room, or no control."""
        self._opening = None
        if self._state != _CONNECTING:
            return
        if self._admission is None:
            self._over(failed=True)
            self.downstream.answer(_control_unavailable(detail))
            return
        if self._port is not None:
            # It says nothing of the port that other requests go to.
            self._fail(502, "worker_failed", f"nobody listens at the port declared as {self._port}: {detail}")
            return
        turn = self._turn
        assert turn is not None
        assert turn.worker is not None
        self._gateway.worker_down(self._admission, turn.worker, detail)
        self._settle(self._admission.retry(turn, self._gateway.time()))

    # --- sending ---

    def _send(self, upstream: Upstream) -> None:
        request = self.request
        self._upstream = upstream
        self._state = _SENDING
        self._active_at = self._gateway.now
        upstream.begin(self, head_request=request.method == b"HEAD", sandboxed=self._sandboxed)
        if request.expects_continue:
            request.expects_continue = False
            if not request.complete:
                self.downstream.go_on()
        if not request.has_body:
            self._whole = True
            upstream.write(self._head + b"\r\n")
            return
        self._whole = request.complete
        # Before the write, which may find the upstream full and stop the body again.
        self.downstream.resume_body()
        upstream.write(first_piece(self._head, request, [*(self._sent or ()), *self._take_body()]))

    def _take_body(self) -> list[bytes]:
        self._sent_bytes += self.request.pending_bytes
        parts = self.request.take()
        if self._sent is not None:
            if self._sent_bytes > BODY_HELD_BYTES_MAX:
                self._sent = None
            else:
                self._sent.extend(parts)
        return parts

    def body_arrived(self) -> None:
        """More of the request's body is there, or its end."""
        if self._state < _SENDING:
            self._hold_body()
            return
        upstream = self._upstream
        if upstream is None or self._whole:
            return
        request = self.request
        parts = self._take_body()
        self._whole = request.complete
        self._active_at = self._gateway.now
        if piece := next_piece(request, parts):
            upstream.write(piece)

    def upstream_blocked(self) -> None:
        """The upstream does not keep up with the body."""
        self.downstream.pause_body()

    def upstream_writable(self) -> None:
        """It does again."""
        self._active_at = self._gateway.now
        self.downstream.resume_body()

    # --- answering ---

    def interim(self, status: int, headers: Headers) -> None:
        """A 1xx of the upstream, for the client; but Stoker answers `Expect` itself."""
        if status > 101:
            self.downstream.interim(status, headers)

    def answer_began(self, status: int, headers: Headers) -> ResponseHead:
        """The head of the answer is there. How it is passed on, but for what this request alone has asked for."""
        head = read_response(status, headers, head_request=self.request.method == b"HEAD", sandboxed=self._sandboxed)
        self._answer(head)
        return head

    def answer_again(self, head: ResponseHead, body: bytes) -> None:
        """The answer is there as a whole, with a head that is known."""
        self._answer(head)
        if body:
            self.answer_data(body)

    def _answer(self, head: ResponseHead) -> None:
        self._state = _ANSWERING
        self._trace.began(head.status, self._gateway.time())
        self._sent = None
        self._active_at = self._gateway.now
        if head.keep_alive_s is not None and self._upstream is not None:
            self._upstream.keep_alive_s = head.keep_alive_s
        if self.request.session is not None or self.request.reservation is not None:
            head = head.with_line(self._worker_line())
        self.downstream.begin(head)

    def _worker_line(self) -> bytes:
        worker = self.worker
        return b"" if worker is None else b"X-Stoker-Worker: %b\r\n" % worker.encode()

    @property
    def worker(self) -> str | None:
        """The worker whose slot it holds."""
        worker = None if self._turn is None else self._turn.worker
        return None if worker is None else worker.id

    def answer_data(self, data: bytes) -> None:
        """A piece of the answer's body."""
        self._trace.tail = (self._trace.tail[1], data)
        self.downstream.write(data)

    def answer_trailer(self, name: bytes, value: bytes) -> None:
        """A trailer of the answer."""
        if (line := trailer_line(name, value, sandboxed=self._sandboxed)) is not None:
            self.downstream.trailer(line)

    def flush(self) -> None:
        """Nothing more of the answer is there at the moment."""
        self._active_at = self._gateway.now
        self.downstream.flush()

    def answer_ended(self, *, reusable: bool) -> None:
        """The answer is complete."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            if reusable and self.request.complete:
                upstream.give_back(self._gateway.now)
            else:
                upstream.abort()
        self._over(failed=False)
        self.downstream.finish()

    def upstream_lost(self, detail: str) -> None:
        """The connection ended before the answer did."""
        upstream, self._upstream = self._upstream, None
        if self._admission is not None and self._turn is not None:
            self._rest(self._admission, self._turn)
        if self._state == _ANSWERING:
            self._trace.status = 502
            self._over(failed=True)
            self.downstream.abort()
            return
        stale = upstream is not None and not upstream.fresh and not upstream.answered
        if stale and self._sent is not None and not self._resent and self._pool is not None:
            # It was idle and the other end closed it just as the request went out: nothing was read there.
            self._resent = True
            self._connect(self._pool)
            return
        self._fail(502, "worker_failed", f"the worker did not answer: {detail}")

    # --- a WebSocket ---

    def switches(self, headers: Headers) -> bool:
        """The upstream answers 101: is that what was asked for?"""
        if not self.request.upgrade or self._state != _SENDING:
            return False
        self._tunnel = switching_head(headers, sandboxed=self._sandboxed)
        return self._tunnel is not None

    def switched(self, early: bytes) -> None:
        """From now on bytes pass as they are. The slot is held until both ends are done."""
        head, self._tunnel = self._tunnel, None
        upstream, self._upstream = self._upstream, None
        assert isinstance(head, bytes)
        assert upstream is not None
        worker = upstream.detach()
        if worker is None:
            self._fail(502, "worker_failed", "the worker closed the connection that it had just agreed to")
            return
        handed = self.downstream.switch(head)
        if handed is None:
            worker.abort()
            self.gone()
            return
        client, from_client = handed
        self._state = _TUNNELLING
        self._sent = None
        gateway = self._gateway
        self._trace.began(101, gateway.time())
        tunnel = self._tunnel = Tunnel(
            self, gateway, client=client, client_end=self.downstream, worker=worker, view=gateway.upstreams.view
        )
        tunnel.start(from_client=from_client, from_worker=early)

    def tunnel_ended(self, *, cut: bool) -> None:
        """The worker's end of the WebSocket is closed."""
        if self._state == _OVER:
            return
        if cut:
            self._trace.status = 502
        self._over(failed=cut)
        if cut:
            self.downstream.abort()
        else:
            self.downstream.close()

    def _rest(self, admission: Admission, turn: Turn) -> None:
        admission.rest(turn, self._gateway.time())
        loop = asyncio.get_running_loop()
        # A little later than the rest itself: timers may fire a clock's tick early.
        loop.call_later(REST_S + 0.005, lambda: admission.rested(self._gateway.time()))

    def _fail(self, status: int, reason: str, detail: str) -> None:
        if self._admission is None:
            reason, detail = "control_unavailable", f"control did not answer: {detail}"
            status = 503
        began = self._state >= _ANSWERING
        self._trace.status = status
        self._over(failed=True)
        if began:
            self.downstream.abort()
        else:
            self.downstream.answer(answers.failure(status, reason, detail, openai=self._openai))

    # --- the client ---

    def downstream_blocked(self) -> None:
        """The client does not keep up with the answer."""
        if self._upstream is not None:
            self._upstream.pause_reading()

    def downstream_writable(self) -> None:
        """It does again."""
        self._active_at = self._gateway.now
        if self._upstream is not None:
            self._upstream.resume_reading()

    def gone(self) -> None:
        """The client has left: give up the place or the slot, and the upstream."""
        self._trace.status = CLIENT_LEFT
        self._over(failed=False)

    # --- time ---

    def sweep(self, now: float, *, look: bool) -> None:
        """Called every quarter of a second with the event loop's time; with `look`, checks on silent clients."""
        state = self._state
        limits = self._limits
        if look and not self.downstream.alive():
            self.gone()
            self.downstream.abort()
        elif state == _WAITING:
            return
        elif limits.total_s is not None and self._started_at is not None and now - self._started_at > limits.total_s:
            self._fail(504, "total_timeout", f"the exchange took longer than {limits.total_s:g} s")
        elif state == _CONNECTING:
            if now - self._active_at > limits.connect_s:
                assert self._opening is not None
                self._opening.cancel()
                self.connect_failed(f"no connection within {limits.connect_s:g} s")
        elif state == _TUNNELLING:
            assert isinstance(self._tunnel, Tunnel)
            if self._tunnel.overdue(now, limits.idle_s):
                self._fail(504, "idle_timeout", "silence in both directions")
        elif state == _SENDING and self.request.complete:
            if limits.first_byte_s is not None and now - self._active_at > limits.first_byte_s:
                self._fail(504, "first_byte_timeout", f"no answer within {limits.first_byte_s:g} s")
        elif limits.idle_s is not None and now - self._active_at > limits.idle_s:
            self._fail(504, "idle_timeout", f"silence for {limits.idle_s:g} s")

    # --- the end ---

    def _note(self, admission: Admission, turn: Turn, now: float) -> None:
        entry = admission.entry
        note = self._trace.note(entry, turn.entered_at, now)
        self._gateway.ledger.note(note)
        if self._gateway.access_log is not None:
            worker = None if turn.worker is None else turn.worker.id
            self._gateway.access_log.note(note, self.request, entry.slug, worker)

    def _over(self, *, failed: bool) -> None:
        """The one way out. Harmless when called again."""
        if self._state == _OVER:
            return
        self._state = _OVER
        self._gateway.live.discard(self)
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        tunnel, self._tunnel = self._tunnel, None
        if isinstance(tunnel, Tunnel):
            tunnel.end()
        self._sent = None
        if self._share is not None:
            self._share.let_go()
        if self._quota is not None:
            self._quota.leave()
        # A turn that has left the queue may lie in it as a blank for a while, and this exchange with it.
        self.request.take()
        turn, self._turn = self._turn, None
        if turn is not None and self._admission is not None:
            now = self._gateway.time()
            # A task that got no slot has not been tried.
            if not turn.task or self._trace.admitted_at is not None:
                self._note(self._admission, turn, now)
            if turn.waiting:
                self._admission.leave(turn, now)
            else:
                self._admission.release(turn, now, failed=failed)


def _control_unavailable(detail: str) -> Answer:
    return answers.failure(503, "control_unavailable", f"control does not answer: {detail}", openai=False)

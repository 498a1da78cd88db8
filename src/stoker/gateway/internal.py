"""The internal listener: control's way to have attempts of tasks made. A Unix socket for its owner alone, HTTP/1.1.

    POST   /attempts/{id}?endpoint=ID&method=POST&target=%2Fpath[&total_s=N][&port=N]   headers and body are the task's
           `task`, `attempt` and `delivery` are told to the worker, as X-Stoker-Task-Id, -Attempt and -Delivery
           202 it runs; 200 there is one with this id already; 409, 404, 429 or 503 with a reason: it was not begun
    GET    /attempts:ended?after=N&wait_s=S 200 those that ended after the Nth, as MessagePack; see `gateway.ended`
    GET    /attempts                        200 {"attempts": [state, ...]}
    GET    /attempts/{id}[?wait_s=N]        200 the answer, once it is there; else, after N seconds, the state
    GET    /attempts/{id}/output?from=N     200 the answer from byte N on, while it arrives; 410 when there will be none
    POST   /attempts/{id}/abort             200 the state; a running one is `failed` now, with reason `aborted`
    DELETE /attempts/{id}                   200 acknowledged: its result is dropped; 409 while it runs

A state is `{id, endpoint, state, reason, worker, status, bytes, age_s}`. Every answer about one attempt has the state
in `X-Stoker-Attempt` (running, answered, failed, refused); a worker's answer comes as 200 with its own headers and
body, and its status in `X-Stoker-Attempt-Status`. Results live as long as this process: an attempt that its end cut, or
that nobody had acknowledged, is made again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from stoker.gateway import answers
from stoker.gateway.admission import Admission
from stoker.gateway.answers import Answer
from stoker.gateway.attempts import Attempt, AttemptLimits, Attempts
from stoker.gateway.bodies import BodyReader
from stoker.gateway.connection import ClientConnection
from stoker.gateway.ended import Ended
from stoker.gateway.exchange import Exchange
from stoker.gateway.following import Following
from stoker.gateway.handover import Successor
from stoker.gateway.head import Request, upstream_head
from stoker.gateway.parties import Hub
from stoker.gateway.response import ResponseHead
from stoker.link.messages import EndpointEntry

BODY_BYTES_MAX: Final = 64 * 1024 * 1024
WAIT_S_MAX: Final = 600.0
CLIENTS_MAX: Final = 2_000
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
# What workers are told of the task, so that they can recognise one that they have had before.
_TOLD: Final = {
    "task": b"X-Stoker-Task-Id",
    "attempt": b"X-Stoker-Task-Attempt",
    "delivery": b"X-Stoker-Task-Delivery",
}
_METHOD: Final = re.compile(r"[A-Z]{1,20}\Z")


class Internal:
    """The `Router` of the internal listener's connections."""

    def __init__(self, hub: Hub, admissions: dict[str, Admission], attempts: Attempts) -> None:
        self.draining = False
        # Control finds the next gateway by itself.
        self.successor: Successor | None = None
        self.attempts = attempts
        self._hub = hub
        self._admissions = admissions
        self._clients: set[ClientConnection] = set()

    @property
    def now(self) -> float:
        """The hub's coarse time."""
        return self._hub.now

    @property
    def view(self) -> memoryview:
        """The one buffer for reading."""
        return self._hub.view

    @property
    def trusted(self) -> tuple[()]:
        """Nobody stands in for somebody else here."""
        return ()

    def opened(self, client: ClientConnection) -> bool:
        """Control has connected."""
        if len(self._clients) >= CLIENTS_MAX:
            return False
        self._clients.add(client)
        return True

    def closed(self, client: ClientConnection) -> None:
        """A connection is closed."""
        self._clients.discard(client)

    def close(self) -> None:
        """End all attempts and connections."""
        self.attempts.close()
        for client in tuple(self._clients):
            client.abort()

    def sweep(self, now: float) -> None:
        """A second has passed."""
        self.attempts.sweep(now)
        for client in tuple(self._clients):
            client.sweep(now)

    def handle(self, client: ClientConnection, request: Request) -> None:
        """Do what the module's docstring says."""
        path, _, query = request.target.decode("latin-1").partition("?")
        _, _, rest = path.partition("/attempts")
        values = dict(parse_qsl(query, keep_blank_values=True))
        id, _, verb = rest.removeprefix("/").partition("/")
        if path == "/attempts:ended" and request.method == b"GET":
            self._tell(client, values)
        elif path == "/attempts" and request.method == b"GET":
            states = [state_of(attempt, self.now) for attempt in self.attempts.all()]
            client.answer(answers.json_answer({"attempts": states}))
        elif not path.startswith("/attempts/") or not _ID.match(id):
            client.answer(answers.failure(404, "not_found", "there is nothing at this address", openai=False))
        elif request.method == b"POST" and not verb:
            self._submit(client, request, id, values)
        elif (attempt := self.attempts.get(id)) is None:
            client.answer(answers.failure(404, "attempt_not_found", "no such attempt, or acknowledged", openai=False))
        elif request.method == b"POST" and verb == "abort":
            attempt.cancel("aborted")
            client.answer(self._state(attempt))
        elif request.method == b"DELETE" and not verb:
            self._acknowledge(client, attempt)
        elif request.method == b"GET" and verb == "output":
            self._follow(client, attempt, values)
        elif request.method == b"GET" and not verb:
            self._attach(client, attempt, values)
        else:
            client.answer(answers.failure(405, "bad_request", "this cannot be done to an attempt", openai=False))

    def _tell(self, client: ClientConnection, values: dict[str, str]) -> None:
        after, wait_s = values.get("after", "0"), _seconds(values.get("wait_s", "0"))
        if not after.isascii() or not after.isdigit() or len(after) > 18 or wait_s is None or wait_s > WAIT_S_MAX:
            detail = f"after is a number, wait_s one of seconds up to {WAIT_S_MAX:g}"
            client.answer(answers.failure(400, "bad_request", detail, openai=False))
            return
        ended = Ended(client, self.attempts, self._hub, int(after), self.now + wait_s)
        client.converse(ended)
        ended.start()

    def _follow(self, client: ClientConnection, attempt: Attempt, values: dict[str, str]) -> None:
        offset = values.get("from", "0")
        if not offset.isascii() or not offset.isdigit() or len(offset) > 18:
            client.answer(answers.failure(400, "bad_request", "from is a number of bytes", openai=False))
            return
        following = Following(client, attempt, int(offset))
        client.converse(following)
        following.start()

    def _state(self, attempt: Attempt, status: int = 200) -> Answer:
        body = msgspec.json.encode(state_of(attempt, self.now))
        return Answer(status, body, (b"Content-Type: application/json\r\n", _state_line(attempt)))

    def _acknowledge(self, client: ClientConnection, attempt: Attempt) -> None:
        if attempt.running:
            client.answer(answers.failure(409, "attempt_running", "it runs; abort it first", openai=False))
            return
        self.attempts.forget(attempt.id)
        client.answer(answers.json_answer({}))

    def _attach(self, client: ClientConnection, attempt: Attempt, values: dict[str, str]) -> None:
        wait_s = _seconds(values.get("wait_s", "0"))
        if wait_s is None or wait_s > WAIT_S_MAX:
            detail = f"wait_s is a number of seconds up to {WAIT_S_MAX:g}"
            client.answer(answers.failure(400, "bad_request", detail, openai=False))
        else:
            attached = Attached(client, attempt, self._hub, self.now + wait_s, state=self._state)
            client.converse(attached)
            attached.start()

    # Beginning one

    def _submit(self, client: ClientConnection, request: Request, id: str, values: dict[str, str]) -> None:
        if request.complete:
            self._begin(client, request, id, values)
            return
        reader = BodyReader(
            client,
            request,
            self._hub,
            lambda: self._begin(client, request, id, values),
            bytes_max=BODY_BYTES_MAX,
            openai=False,
        )
        client.converse(reader)
        reader.start()

    def _begin(self, client: ClientConnection, request: Request, id: str, values: dict[str, str]) -> None:
        known = self.attempts.get(id)
        if known is not None:
            client.answer(self._state(known))
            return
        admission = self._admissions.get(values.get("endpoint", ""))
        refused = self._refusal(admission, values)
        if refused is not None or admission is None:
            client.answer(refused or answers.failure(404, "endpoint_gone", "no such endpoint", openai=False))
            return
        attempt = self.attempts.begin(id, admission.entry.id, self._hub.time())
        task = _request_of(request, values)
        head = upstream_head(
            task,
            task.target,
            forwarded=client.peer,
            keep_authorization=True,
            keep_api_key=True,
            keep_own_cookies=False,
        )
        limits = _limits(admission.entry, values)
        port = _port(values)
        attempt.exchange = Exchange(self._hub, task, attempt, head, limits, admission=admission, task=True, port=port)
        attempt.exchange.start()
        attempt.note_worker()
        if attempt.state == "refused":
            self.attempts.forget(id)
            status = 429 if attempt.reason == "busy" else 503
            client.answer(answers.failure(status, attempt.reason, "no worker takes it now", openai=False))
        else:
            client.answer(self._state(attempt, 202))

    def _refusal(self, admission: Admission | None, values: dict[str, str]) -> Answer | None:
        if self.draining:
            return answers.failure(503, "stopping", "this gateway takes no more attempts", openai=False)
        if admission is None:
            return answers.failure(404, "endpoint_gone", "no such endpoint", openai=False)
        if self.attempts.full:
            detail = "results that nobody has acknowledged fill what is kept for them"
            return answers.failure(503, "results_full", detail, openai=False)
        target, total_s = values.get("target", ""), values.get("total_s")
        spelt = _METHOD.match(values.get("method", "POST")) and target.startswith("/")
        if not spelt or not target.isascii() or any(c.isspace() or not c.isprintable() or c == "#" for c in target):
            return answers.failure(400, "bad_request", "method and target are those of a request", openai=False)
        if total_s is not None and _seconds(total_s) is None:
            return answers.failure(400, "bad_request", "total_s is a number of seconds", openai=False)
        if values.get("port", "") and _port(values) is None:
            return answers.failure(400, "bad_request", "port is a number", openai=False)
        return None


class Attached:
    """Waits for the end of an attempt, then hands its answer over; a `Conversation`. Detaching does nothing to it."""

    def __init__(
        self,
        client: ClientConnection,
        attempt: Attempt,
        hub: Hub,
        deadline: float,
        *,
        state: Callable[[Attempt], Answer],
    ) -> None:
        self._client = client
        self._attempt = attempt
        self._hub = hub
        self._deadline = deadline
        self._state = state
        self._offset = 0
        self._blocked = False
        self._begun = False

    def start(self) -> None:
        """Answer now, or when it is over."""
        if self._attempt.running and self._deadline > self._hub.now:
            self._hub.live.add(self)
            self._attempt.watchers.add(self._over)
        else:
            self._over()

    def _over(self) -> None:
        self._leave()
        attempt = self._attempt
        if attempt.state != "answered" or attempt.head is None:
            self._client.answer(self._state(attempt))
            return
        lines = [*attempt.head.lines, _state_line(attempt)]
        lines.append(b"X-Stoker-Attempt-Status: %d\r\n" % attempt.head.status)
        if attempt.worker is not None:
            lines.append(b"X-Stoker-Attempt-Worker: %b\r\n" % attempt.worker.encode())
        self._begun = True
        self._client.begin(ResponseHead(200, lines, length=attempt.body.size))
        self._go_on()

    def _go_on(self) -> None:
        while not self._blocked:
            try:
                piece = self._attempt.body.read(self._offset)
            except (OSError, ValueError):
                # Acknowledged meanwhile by somebody else, or lost with its disk.
                self._client.abort()
                return
            if not piece:
                self._client.finish()
                return
            self._offset += len(piece)
            self._client.write(piece)
            self._client.flush()

    def _leave(self) -> None:
        self._hub.live.discard(self)
        self._attempt.watchers.discard(self._over)

    def body_arrived(self) -> None:
        """It has none."""

    def gone(self) -> None:
        """Whoever was attached has left; the attempt goes on."""
        self._leave()

    def downstream_blocked(self) -> None:
        """It does not keep up."""
        self._blocked = True

    def downstream_writable(self) -> None:
        """It does again."""
        self._blocked = False
        if self._begun:
            self._go_on()

    def sweep(self, now: float, *, look: bool) -> None:
        """The wait may be over."""
        if now >= self._deadline:
            self._over()


def state_of(attempt: Attempt, now: float) -> dict[str, object]:
    """What control is told of an attempt."""
    return {
        "id": attempt.id,
        "endpoint": attempt.endpoint,
        "state": attempt.state,
        "reason": attempt.reason,
        "worker": attempt.worker,
        "status": None if attempt.head is None else attempt.head.status,
        "bytes": attempt.body.size,
        "age_s": max(0.0, now - attempt.began_at),
    }


def _state_line(attempt: Attempt) -> bytes:
    return b"X-Stoker-Attempt: %b\r\n" % attempt.state.encode()


def _port(values: dict[str, str]) -> int | None:
    text = values.get("port", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else None


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _request_of(request: Request, values: dict[str, str]) -> Request:
    """The request to make; whoever asked for it has a connection, and a request, of its own."""
    task = Request(
        values.get("method", "POST").encode(), values["target"].encode("ascii"), persistent=True, keep_alive=True
    )
    task.host, task.lines, task.cookies = request.host, request.lines, request.cookies
    task.authorization, task.api_key = request.authorization, request.api_key
    task.session, task.worker = request.session, request.worker
    for name, header in _TOLD.items():
        value = values.get(name, "")
        if _ID.match(value):
            task.lines = [*task.lines, b"%b: %b\r\n" % (header, value.encode())]
    task.pending = request.take()
    task.pending_bytes = sum(map(len, task.pending))
    task.complete = True
    if request.has_body:
        task.length = task.pending_bytes
    return task


def _limits(entry: EndpointEntry, values: dict[str, str]) -> AttemptLimits:
    asked_s = _seconds(values.get("total_s", ""))
    totals = [total_s for total_s in (asked_s, entry.total_s) if total_s is not None]
    return AttemptLimits(entry.connect_s, entry.first_byte_s, entry.idle_s, min(totals, default=None))

"""Tells of all attempts that have ended, many at once: `GET /attempts:ended?after=N&wait_s=S`, for `gateway.internal`.

Each has a number, in the order of their ends; small answers come along. Telling changes nothing: what is not
acknowledged is told again to whoever asks from an earlier number on.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from stoker.domain.task import EndedAttempt
from stoker.gateway.answers import Answer
from stoker.gateway.attempts import Attempt, Attempts
from stoker.gateway.connection import ClientConnection
from stoker.gateway.parties import Hub
from stoker.gateway.results import MEMORY_BYTES_MAX

TOLD_MAX: Final = 256
TOLD_BYTES_MAX: Final = 4 * 1024 * 1024
_encoder = msgspec.msgpack.Encoder()


class Ended:
    """Waits for attempts to end that were not told of; a `Conversation`."""

    def __init__(self, client: ClientConnection, attempts: Attempts, hub: Hub, after: int, deadline: float) -> None:
        self._client = client
        self._attempts = attempts
        self._hub = hub
        self._after = after
        self._deadline = deadline
        self._soon: asyncio.Handle | None = None

    def start(self) -> None:
        """Answer now, or when there is something to tell."""
        self._hub.live.add(self)
        self._attempts.watchers.add(self._wake)
        if self._deadline <= self._hub.now or self._attempts.ended_after(self._after, 1):
            self._answer()

    def _wake(self) -> None:
        # What ends within the same turn of the loop is told of together.
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._soon = None
        # One that no worker took is over and forgotten at once.
        if self._attempts.ended_after(self._after, 1):
            self._answer()

    def _answer(self) -> None:
        self._leave()
        told = []
        size = 0
        for attempt in self._attempts.ended_after(self._after, TOLD_MAX):
            entry = _entry_of(attempt)
            told.append(entry)
            size += len(entry.body or b"")
            if size > TOLD_BYTES_MAX:
                break
        body = _encoder.encode(told)
        self._client.answer(Answer(200, body, (b"Content-Type: application/msgpack\r\n",)))

    def _leave(self) -> None:
        self._hub.live.discard(self)
        self._attempts.watchers.discard(self._wake)
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    def body_arrived(self) -> None:
        """It has none."""

    def gone(self) -> None:
        """Whoever asked has left."""
        self._leave()

    def downstream_blocked(self) -> None:
        """One answer is all there is."""

    def downstream_writable(self) -> None:
        """The same."""

    def sweep(self, now: float, *, look: bool) -> None:
        """The wait may be over."""
        if now >= self._deadline:
            self._answer()


def _entry_of(attempt: Attempt) -> EndedAttempt:
    head, size = attempt.head, attempt.body.size
    if attempt.state != "answered" or head is None:
        return EndedAttempt(attempt.seq, attempt.id, attempt.state, attempt.reason, attempt.worker)
    found = {b"content-type": b"", b"retry-after": b""}
    for line in b"".join(head.lines).split(b"\r\n"):
        name, _, value = line.partition(b":")
        if (lower := name.lower()) in found:
            found[lower] = value.strip()
    return EndedAttempt(
        attempt.seq,
        attempt.id,
        attempt.state,
        attempt.reason,
        attempt.worker,
        head.status,
        found[b"content-type"].decode("latin-1") or None,
        found[b"retry-after"].decode("latin-1") or None,
        size,
        attempt.body.read(0) if size <= MEMORY_BYTES_MAX else None,
    )

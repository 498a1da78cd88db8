"""Hands over the answer of an attempt while it arrives: `GET /attempts/{id}/output?from=N`, for `gateway.internal`.

It begins with the answer's head and ends with the answer; a connection that is cut says that none will be whole.
"""

from __future__ import annotations

from stoker.gateway import answers
from stoker.gateway.attempts import Attempt
from stoker.gateway.connection import ClientConnection
from stoker.gateway.response import ResponseHead


class Following:
    """Passes on what is there from `offset` on, then whatever comes; a `Conversation`."""

    def __init__(self, client: ClientConnection, attempt: Attempt, offset: int) -> None:
        self._client = client
        self._attempt = attempt
        self._offset = offset
        self._blocked = False
        self._begun = False

    def start(self) -> None:
        """Answer as far as there is an answer."""
        self._attempt.followers.add(self._grown)
        self._grown()

    def _grown(self) -> None:
        attempt = self._attempt
        if attempt.state not in ("running", "answered"):
            self._leave()
            if self._begun:
                self._client.abort()
            else:
                self._client.answer(answers.failure(410, "attempt_failed", "there is no answer", openai=False))
            return
        if attempt.head is None:
            return
        if not self._begun:
            self._begun = True
            status = b"X-Stoker-Attempt-Status: %d\r\n" % attempt.head.status
            self._client.begin(ResponseHead(200, [*attempt.head.lines, status]))
        self._pass_on()

    def _pass_on(self) -> None:
        attempt = self._attempt
        while not self._blocked:
            try:
                piece = attempt.body.read(self._offset)
            except (OSError, ValueError):
                # Acknowledged meanwhile, or lost with its disk.
                self._leave()
                self._client.abort()
                return
            if not piece:
                break
            self._offset += len(piece)
            self._client.write(piece)
            self._client.flush()
        self._client.flush()
        if not attempt.running and not self._blocked:
            self._leave()
            self._client.finish()

    def _leave(self) -> None:
        self._attempt.followers.discard(self._grown)

    def body_arrived(self) -> None:
        """It has none."""

    def gone(self) -> None:
        """Whoever followed has left; the attempt goes on."""
        self._leave()

    def downstream_blocked(self) -> None:
        """It does not keep up; the attempt does not wait for it."""
        self._blocked = True

    def downstream_writable(self) -> None:
        """It does again."""
        self._blocked = False
        self._grown()

    def sweep(self, now: float, *, look: bool) -> None:
        """There is no deadline: it ends with the attempt."""

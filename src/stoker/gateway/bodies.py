"""Reads a request's body before anybody knows where it goes, within bounds of size, memory and time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from stoker.gateway import answers
from stoker.gateway.answers import Answer
from stoker.gateway.budget import Share
from stoker.gateway.head import Request
from stoker.gateway.parties import Hub

BODY_S_MAX: Final = 60.0


class BodyClient(Protocol):
    """The client whose body is read."""

    def go_on(self) -> None: ...

    def answer(self, answer: Answer) -> None: ...


class BodyReader:
    """Waits until the body is there: all of it, or as much as is `enough`. Then `complete` is called, once."""

    __slots__ = ("_bytes_max", "_client", "_complete", "_deadline", "_enough", "_live", "_openai", "_request", "_share")

    def __init__(
        self,
        client: BodyClient,
        request: Request,
        hub: Hub,
        complete: Callable[[], None],
        *,
        bytes_max: int,
        openai: bool,
        enough: Callable[[Request], bool] | None = None,
    ) -> None:
        self._client = client
        self._request = request
        self._live = hub.live
        self._share = Share(hub.budget)
        self._deadline = hub.now + BODY_S_MAX
        self._complete = complete
        self._bytes_max = bytes_max
        self._openai = openai
        self._enough = enough

    def start(self) -> None:
        """Ask for the body, if the client waits to be asked."""
        self._live.add(self)
        if self._request.expects_continue:
            self._request.expects_continue = False
            self._client.go_on()
        self.body_arrived()

    def body_arrived(self) -> None:
        """More of it is there, or its end."""
        request = self._request
        if request.complete or (self._enough is not None and self._enough(request)):
            if request.pending_bytes > self._bytes_max:
                self._refuse_long()
            else:
                self.gone()
                self._complete()
        elif max(0 if self._enough else request.length or 0, request.pending_bytes) > self._bytes_max:
            self._refuse_long()
        elif not self._share.hold(request.pending_bytes):
            self.gone()
            self._client.answer(answers.no_memory(openai=self._openai))

    def _refuse_long(self) -> None:
        self.gone()
        detail = f"a body that names its model has at most {self._bytes_max} bytes; X-Stoker-Endpoint lifts the limit"
        self._client.answer(answers.failure(413, "body_too_large", detail, openai=self._openai))

    def gone(self) -> None:
        """The client has left, or reading is over."""
        self._live.discard(self)
        self._share.let_go()

    def downstream_blocked(self) -> None:
        """Nothing is being sent."""

    def downstream_writable(self) -> None:
        """Nothing is being sent."""

    def sweep(self, now: float, *, look: bool) -> None:
        """Give up on a body that does not come."""
        if now > self._deadline:
            self.gone()
            detail = f"the body did not arrive within {BODY_S_MAX:g} s"
            self._client.answer(answers.failure(408, "body_timeout", detail, openai=self._openai))

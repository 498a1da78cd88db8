"""What the gateway itself answers: problem+json, or an error in OpenAI's shape below `/v1`. Pure."""

from __future__ import annotations

import math
from http import HTTPStatus

import msgspec

from stoker.gateway.admission import Refusal
from stoker.gateway.response import ResponseHead

_STATUS_OF_REASON = {
    "waiting_room_full": 429,
    "busy": 429,
    "key_rate": 429,
    "key_concurrency": 429,
    "session_lost": 410,
    "endpoint_gone": 404,
}
_FOR_WANT_OF_SLOTS = frozenset({"busy", "no_capacity", "waiting_room_full", "wait_expired"})
RETRY_AFTER_S = 1.0


class Answer:
    """A complete answer: head and body. `reason` is that of a failure, else empty."""

    __slots__ = ("body", "head", "reason")

    def __init__(self, status: int, body: bytes, lines: tuple[bytes, ...], *, reason: str = "") -> None:
        self.body = body
        self.reason = reason
        self.head = ResponseHead(status, lines, length=len(body))


def json_answer(value: object) -> Answer:
    """200 with this value."""
    return Answer(200, msgspec.json.encode(value), (b"Content-Type: application/json\r\n",))


def failure(
    status: int,
    reason: str,
    detail: str,
    *,
    openai: bool,
    retry_after_s: float | None = None,
    extra: dict[str, object] | None = None,
) -> Answer:
    """A failure in the shape of the address that was called. `reason` is a stable word, repeated in a header."""
    lines = [b"X-Stoker-Reason: %b\r\n" % reason.encode("ascii", "replace")]
    if status in (429, 503):
        seconds = math.ceil(RETRY_AFTER_S if retry_after_s is None else retry_after_s)
        lines.append(b"Retry-After: %d\r\n" % max(1, seconds))
    if status == 401:
        lines.append(b'WWW-Authenticate: Bearer realm="stoker"\r\n')
    if openai:
        lines.append(b"Content-Type: application/json\r\n")
        error = {"message": detail, "type": _openai_type(status), "param": None, "code": reason, **(extra or {})}
        return Answer(status, msgspec.json.encode({"error": error}), tuple(lines), reason=reason)
    lines.append(b"Content-Type: application/problem+json\r\n")
    title = HTTPStatus(status).phrase
    problem = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "reason": reason,
        **(extra or {}),
    }
    return Answer(status, msgspec.json.encode(problem), tuple(lines), reason=reason)


def starting(*, openai: bool) -> Answer:
    """No table yet."""
    return failure(503, "starting", "Stoker is starting; try again in a moment", openai=openai)


def no_key(*, openai: bool) -> Answer:
    """Nobody is let in without one."""
    reason = "invalid_api_key" if openai else "unauthenticated"
    return failure(401, reason, "a key is needed: Authorization: Bearer sk-...", openai=openai)


def forbidden(*, openai: bool) -> Answer:
    """Its key is for other things."""
    return failure(403, "forbidden", "this key may not call this endpoint", openai=openai)


def refused(refusal: Refusal, *, openai: bool, starting_s: float | None = None) -> Answer:
    """The answer to a request that admission refused. `starting_s`: no worker is there yet, and one takes about so long
    to come.
    """
    status = _STATUS_OF_REASON.get(refusal.reason, 503)
    retry_after_s = refusal.retry_after_s
    if starting_s is not None and refusal.reason in _FOR_WANT_OF_SLOTS:
        retry_after_s = starting_s
    return failure(status, refusal.reason, refusal.text, openai=openai, retry_after_s=retry_after_s)


def no_memory(*, openai: bool) -> Answer:
    """The answer to a request that waits with more of a body than the gateway can hold."""
    return failure(503, "buffers_full", "the bodies of waiting requests fill the gateway's buffers", openai=openai)


def _openai_type(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 403:
        return "permission_error"
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"

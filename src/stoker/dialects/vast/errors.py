"""Errors as Vast.ai's clients read them: `success`, `error` and `msg`; on the engine's paths `error` and `error_msg`.
Every body has all of them, since one server is both here. Clients repeat what is answered 429 or 5xx.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stoker.dialects import frame
from stoker.dialects.vast.wire.base import ErrorOut
from stoker.domain.errors import (
    Conflict,
    Forbidden,
    NotFound,
    Saturated,
    StokerError,
    Unauthenticated,
    Unavailable,
)

ERRORS_SHOWN_MAX = 5
TEXT_CHARS_MAX = 1_000
_KINDS: tuple[tuple[type[StokerError], int, str], ...] = (
    (NotFound, 404, "not_found"),
    (Conflict, 400, "invalid_args"),
    (Unauthenticated, 401, "auth_error"),
    (Forbidden, 403, "forbidden"),
    (Saturated, 429, "too_many_requests"),
    (Unavailable, 500, "unavailable"),
    # Invalid, Unsupported.
    (StokerError, 400, "invalid_args"),
)
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorOut, "description": HTTPStatus(status).phrase} for status in (400, 401, 403, 404, 429, 500)
}
BAD_KEY = "Invalid user key"


class NoGroup(NotFound):
    """No such workergroup."""

    def __init__(self, id: int | None) -> None:
        super().__init__("No workergroup by that id is available.")
        self.id = id


class BadWorker(StokerError):
    """Somebody reports as a worker that it is not."""


def answer(status: int, error: str, msg: str, **more: Any) -> JSONResponse:
    """An error's answer."""
    text = msg[:TEXT_CHARS_MAX].encode("utf-8", "replace").decode()
    return JSONResponse({"success": False, "error": error, "msg": text, "error_msg": text, **more}, status)


async def _stoker_error(_request: Request, exc: Exception) -> Response:
    if isinstance(exc, NoGroup):
        return answer(404, "no_such_workergroup", str(exc), id=exc.id)
    if isinstance(exc, BadWorker):
        return answer(401, "auth_error", "the worker is not known by this token")
    if isinstance(exc, Unauthenticated):
        return answer(401, "auth_error", BAD_KEY)
    status, kind = next((status, kind) for of, status, kind in _KINDS if isinstance(exc, of))
    return answer(status, kind, str(exc))


async def _validation_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    errors = exc.errors()
    if any(error["type"] == "json_invalid" for error in errors):
        return answer(400, "invalid_args", "the body is not JSON")
    told: list[str] = []
    for error in errors[:ERRORS_SHOWN_MAX]:
        where = ".".join(str(part)[:64] for part in error["loc"][1:]) or "body"
        message = re.sub(r"^Value error, ", "", str(error["msg"]))
        told.append(f"{where}: {message}")
    return answer(400, "invalid_args", "; ".join(told))


async def _http_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code == HTTPStatus.NOT_FOUND:
        return answer(404, "not_found", "there is nothing at this address")
    if exc.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return answer(405, "method_not_allowed", "this address does not take that method")
    return answer(400, "invalid_args", str(exc.detail))


async def _server_error(_request: Request, _exc: Exception) -> Response:
    # The server logs what it was; the caller learns that it is not theirs to mend.
    return answer(500, "internal_error", "something went wrong inside Stoker; its log says what")


ERRORS = frame.Errors(
    stoker=_stoker_error,
    validation=_validation_error,
    http=_http_error,
    server=_server_error,
    described=RESPONSES,
)

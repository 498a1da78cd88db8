"""Errors as Novita's clients read them: `code`, `reason`, `message` and `metadata`.

What is not there is 400 in the control API and 404 at the gateway of jobs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stoker.dialects import frame
from stoker.dialects.novita.wire.base import ErrorOut
from stoker.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Problem,
    Saturated,
    StokerError,
    Unauthenticated,
    Unavailable,
)

ERRORS_SHOWN_MAX = 20
FIELD_CHARS_MAX = 256


class Refused(StokerError):
    """An error that this cloud has a word of its own for."""

    def __init__(self, reason: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.reason, self.status = reason, status


_KINDS: tuple[tuple[type[StokerError], int, str], ...] = (
    (Unauthenticated, 401, "UNAUTHORIZED"),
    (Forbidden, 403, "FORBIDDEN"),
    (NotFound, 400, "RESOURCE_NOT_FOUND"),
    (Conflict, 400, "CONFLICT"),
    (Saturated, 429, "RATE_LIMIT_EXCEEDED"),
    (Unavailable, 500, "UNKNOWN"),
    (Invalid, 400, "VALIDATOR_PARAM"),
    # Unsupported.
    (StokerError, 400, "REQUEST"),
)
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorOut, "description": HTTPStatus(status).phrase} for status in (400, 401, 403, 404, 429, 500)
}
# Where things stand in an endpoint's spec, and what the field is called here.
_FIELDS = (
    ("/launch/credential", "image.authId"),
    ("/launch/image", "image.image"),
    ("/launch/command", "image.command"),
    ("/launch/env", "envs"),
    ("/launch/port", "ports"),
    ("/launch", "image"),
    ("/pools/0/hardware", "products"),
    ("/pools/0/bounds", "workerConfig"),
    ("/scaling", "policy"),
    ("/slots", "workerConfig.maxConcurrent"),
    ("/timeouts", "workerConfig.requestTimeout"),
    ("/volumes", "volumeMounts"),
    ("/annotations", "volumeMounts"),
    ("/path", "healthy.path"),
)


def answer(status: int, reason: str, message: str) -> JSONResponse:
    """An error's answer."""
    return JSONResponse({"code": status, "reason": reason, "message": message, "metadata": {}}, status)


def translated(pointer: str) -> str:
    """A place in an endpoint's spec, or in a request, as the name of a field of this API."""
    return frame.field_of(pointer, _FIELDS, chars_max=FIELD_CHARS_MAX)


def _told(problems: Sequence[Problem]) -> str:
    return "; ".join(f"{translated(each.pointer) or 'the body'}: {each.detail}" for each in problems[:ERRORS_SHOWN_MAX])


async def _stoker_error(_request: Request, exc: Exception) -> Response:
    if isinstance(exc, Refused):
        return answer(exc.status, exc.reason, str(exc))
    status, reason = next((status, reason) for kind, status, reason in _KINDS if isinstance(exc, kind))
    problems = exc.problems if isinstance(exc, Invalid) else ()
    if any(translated(problem.pointer) == "image.command" for problem in problems):
        reason = "INVALID_COMMAND_PARAM"
    return answer(status, reason, _told(problems) if problems else str(exc))


async def _validation_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    errors = exc.errors()
    if any(error["type"] == "json_invalid" for error in errors):
        return answer(400, "REQUEST", "the body is not JSON")
    shown = "; ".join(_sentence(error) for error in errors[:ERRORS_SHOWN_MAX])
    return answer(400, "VALIDATOR_PARAM", shown.encode("utf-8", "replace").decode())


def _sentence(error: Any) -> str:
    where = [str(part) for part in error["loc"]]
    if where and where[0] in ("body", "query", "path", "header"):
        where = where[1:]
    # All of an endpoint stands below that word when it is created.
    where = where[1:] if where[:1] == ["endpoint"] and len(where) > 1 else where
    message = re.sub(r"^Value error, ", "", str(error["msg"]))
    return f"{'.'.join(where)[:FIELD_CHARS_MAX] or 'the body'}: {message[:1].lower()}{message[1:]}"


async def _http_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code in (404, 405):
        return answer(404, "RESOURCE_NOT_FOUND", "there is nothing at this address, or it does not take this method")
    return answer(400, "REQUEST", str(exc.detail))


async def _server_error(_request: Request, _exc: Exception) -> Response:
    # The server logs what it was; the caller learns that it is not theirs to mend.
    return answer(500, "UNKNOWN", "something went wrong inside Stoker; its log says what")


ERRORS = frame.Errors(
    stoker=_stoker_error,
    validation=_validation_error,
    http=_http_error,
    server=_server_error,
    described=RESPONSES,
)

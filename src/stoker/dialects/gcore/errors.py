"""Errors as Gcore's clients read them: `exception_class`, `message`, `request_id`, and `invalid_fields` for bad fields.
Clients repeat what is answered 408, 409, 429 or 5xx, unless they are told not to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stoker.dialects import frame
from stoker.dialects.gcore.wire.base import ErrorOut
from stoker.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Problem,
    StokerError,
    Unauthenticated,
    Unavailable,
)

ERRORS_SHOWN_MAX = 20
FIELD_CHARS_MAX = 256
# What the same request would be answered again.
_FINAL = {"x-should-retry": "false"}
_KINDS: tuple[tuple[type[StokerError], int, str], ...] = (
    (NotFound, 404, "NotFoundError"),
    (Conflict, 409, "ConflictError"),
    (Unauthenticated, 401, "token_not_valid"),
    (Forbidden, 403, "ForbiddenError"),
    (Unavailable, 500, "ServiceUnavailable"),
    # Invalid, Unsupported, Saturated.
    (StokerError, 400, "ValidationError"),
)
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorOut, "description": HTTPStatus(status).phrase} for status in (400, 401, 403, 404, 409, 500)
}
# Where things stand in an endpoint's spec, and what the field is called here.
_FIELDS = (
    ("/launch/credential", "credentials_name"),
    ("/launch/image", "image"),
    ("/launch/command", "command"),
    ("/launch/env", "envs"),
    ("/launch/port", "listening_port"),
    ("/launch", "image"),
    ("/scaling", "containers"),
    ("/pools", "containers"),
    ("/min", "containers"),
    ("/probes", "probes"),
    ("/annotations", "containers"),
)


def answer(status: int, kind: str, message: str, *, fields: Mapping[str, Sequence[str]] | None = None) -> JSONResponse:
    """An error's answer; `fields` has what is wrong with each."""
    body: dict[str, Any] = {"exception_class": kind, "message": message, "request_id": uuid4().hex}
    if fields:
        body["invalid_fields"] = {name: list(texts) for name, texts in fields.items()}
    return JSONResponse(body, status, headers=_FINAL if status == HTTPStatus.CONFLICT else None)


def invalid(fields: Mapping[str, Sequence[str]]) -> JSONResponse:
    """The answer to a request whose fields do not fit."""
    return answer(400, "ValidationError", f"Validation Error: {json.dumps(fields)}", fields=fields)


def translated(pointer: str) -> str:
    """A place in an endpoint's spec, or in a request, as the name of a field of this API."""
    return frame.field_of(pointer, _FIELDS, chars_max=FIELD_CHARS_MAX)


def _by_field(problems: Sequence[Problem]) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for problem in problems[:ERRORS_SHOWN_MAX]:
        fields.setdefault(translated(problem.pointer) or "body", []).append(problem.detail)
    return fields


async def _stoker_error(_request: Request, exc: Exception) -> Response:
    if isinstance(exc, Invalid) and exc.problems:
        return invalid(_by_field(exc.problems))
    status, kind = next((status, kind) for of, status, kind in _KINDS if isinstance(exc, of))
    return answer(status, kind, str(exc))


async def _validation_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    errors = exc.errors()
    if any(error["type"] == "json_invalid" for error in errors):
        return answer(400, "ValidationError", "Validation Error: the body is not JSON")
    fields: dict[str, list[str]] = {}
    for error in errors[:ERRORS_SHOWN_MAX]:
        where = [str(part) for part in error["loc"]]
        name = ".".join(where[1:]) if where and where[0] in ("body", "query", "path", "header") else ".".join(where)
        name = name[:FIELD_CHARS_MAX].encode("utf-8", "replace").decode() or "body"
        message = re.sub(r"^Value error, ", "", str(error["msg"]))
        fields.setdefault(name, []).append(message.encode("utf-8", "replace").decode())
    return invalid(fields)


async def _http_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code == HTTPStatus.NOT_FOUND:
        return answer(404, "NotFoundError", "there is nothing at this address")
    if exc.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return answer(405, "HTTPError", "HTTP 405: Method Not Allowed")
    return answer(400, "ValidationError", f"Validation Error: {exc.detail}")


async def _server_error(_request: Request, _exc: Exception) -> Response:
    # The server logs what it was; the caller learns that it is not theirs to mend.
    return answer(500, "InternalServerError", "something went wrong inside Stoker; its log says what")


ERRORS = frame.Errors(
    stoker=_stoker_error,
    validation=_validation_error,
    http=_http_error,
    server=_server_error,
    described=RESPONSES,
)

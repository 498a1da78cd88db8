"""Errors as Yotta's clients read them: its code and its text in the envelope, with a status of HTTP that fits.

The texts are Yotta's own; what is wrong in this case stands in `data`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stoker.dialects import frame
from stoker.dialects.yotta.wire.base import ErrorOut
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
POINTER_CHARS_MAX = 256


@dataclass(frozen=True, slots=True)
class Code:
    """A status of HTTP, the code and the text that go with it."""

    status: int
    code: int
    message: str


INVALID = Code(400, 10001, "Invalid request parameters")
NOT_A_TASK = Code(400, 10001, "Invalid request or non-QUEUE endpoint")
SYSTEM = Code(500, 10002, "Internal Server Error")
NO_RECORD = Code(404, 10007, "Record does not exist")
WRONG_STATUS = Code(409, 12001, "Resource status invalid")
NO_ENDPOINT = Code(404, 14000, "Endpoint not found")
UNAVAILABLE = Code(409, 24000, "Serverless unavailable")
NO_SERVERLESS = Code(404, 24001, "Serverless does not exist")
NOT_ALLOWED = Code(409, 24002, "Elastic action not allowed")
NO_TASK = Code(404, 24011, "Task does not exist")
UNKNOWN_CALLER = Code(401, 40101, "Authentication context not found")
TOO_MANY = Code(429, 429, "Too many requests")

SUBMIT = "submit-task"
_KINDS: tuple[tuple[type[StokerError], Code], ...] = (
    (NotFound, NO_RECORD),
    (Conflict, WRONG_STATUS),
    (Unauthenticated, UNKNOWN_CALLER),
    (Forbidden, UNKNOWN_CALLER),
    (Saturated, TOO_MANY),
    (Unavailable, SYSTEM),
    # Invalid, Unsupported.
    (StokerError, INVALID),
)
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorOut, "description": HTTPStatus(status).phrase} for status in (400, 401, 404, 409, 429, 500)
}
# Where things stand in an endpoint's spec or in a task, and what the field is called here.
_FIELDS = (
    ("/launch/credential", "/containerRegistryAuthId"),
    ("/launch/image", "/image"),
    ("/launch/command", "/initializationCommand"),
    ("/launch/env", "/environmentVars"),
    ("/launch/port", "/expose/port"),
    ("/launch", "/image"),
    ("/scaling", "/workers"),
    ("/pools", "/resources"),
    ("/gpu_", "/resources"),
    ("/region", "/resources"),
    ("/vram_gib", "/minSingleCardVramInGb"),
    ("/vcpu", "/minSingleCardVcpu"),
    ("/ram_gib", "/minSingleCardRamInGb"),
    ("/disk_gib", "/containerVolumeInGb"),
    ("/min", "/workers"),
    ("/max", "/workers"),
    ("/webhook/url", "/webhook"),
    ("/webhook/key", "/webhookAuthKey"),
    ("/port", "/workerPort"),
    ("/path", "/processUri"),
    ("/id", "/taskId"),
)


class Refused(StokerError):
    """One of Yotta's own refusals."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(detail or code.message)
        self.code = code
        self.detail = detail


def answer(code: Code, detail: str = "", problems: Sequence[Problem] = ()) -> JSONResponse:
    """An error's answer."""
    data: dict[str, Any] | None = None
    if detail:
        errors = [{"pointer": translated(each.pointer), "detail": each.detail} for each in problems[:ERRORS_SHOWN_MAX]]
        data = {"detail": detail, "errors": errors}
    return JSONResponse({"message": code.message, "code": code.code, "data": data}, code.status)


def translated(pointer: str) -> str:
    """A place in an endpoint's spec, or in a request, as a place in a request of this API."""
    for ours, theirs in _FIELDS:
        if pointer == ours or pointer.startswith((f"{ours}/", ours if ours.endswith("_") else f"{ours}_")):
            return theirs
    return pointer[:POINTER_CHARS_MAX].encode("utf-8", "replace").decode()


def _worded(request: Request, code: Code) -> Code:
    """Whoever submits a task is told of what is wrong with it in words of its own."""
    route = request.scope.get("route")
    return NOT_A_TASK if code is INVALID and getattr(route, "operation_id", None) == SUBMIT else code


async def _stoker_error(request: Request, exc: Exception) -> Response:
    if isinstance(exc, Refused):
        return answer(exc.code, exc.detail)
    code = next(code for kind, code in _KINDS if isinstance(exc, kind))
    return answer(_worded(request, code), str(exc), exc.problems if isinstance(exc, Invalid) else ())


async def _validation_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    errors = exc.errors()
    code = _worded(request, INVALID)
    if any(error["type"] == "json_invalid" for error in errors):
        return answer(code, "the body is not JSON")
    problems = [Problem(_pointer(error["loc"]), _sentence(error)) for error in errors[:ERRORS_SHOWN_MAX]]
    first = problems[0]
    where = translated(first.pointer)[1:] or "the body"
    return answer(code, f"{where}: {first.detail}", problems)


def _pointer(location: Sequence[int | str]) -> str:
    where = location[1:] if location and location[0] in ("body", "query", "path", "header") else location
    shown = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in where)
    return shown.encode("utf-8", "replace").decode()


def _sentence(error: Any) -> str:
    if error["type"] == "missing":
        return "this is required"
    message = re.sub(r"^Value error, ", "", str(error["msg"]))
    return message.encode("utf-8", "replace").decode()


async def _http_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code in (404, 405):
        return answer(NO_RECORD, "there is nothing at this address, or it does not take this method")
    return answer(INVALID, str(exc.detail))


async def _server_error(_request: Request, _exc: Exception) -> Response:
    # The server logs what it was; the caller learns that it is not theirs to mend.
    return answer(SYSTEM, "something went wrong inside Stoker; its log says what")


ERRORS = frame.Errors(
    stoker=_stoker_error,
    validation=_validation_error,
    http=_http_error,
    server=_server_error,
    described=RESPONSES,
)

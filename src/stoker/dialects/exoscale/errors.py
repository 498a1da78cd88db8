"""Errors as Exoscale's clients read them: a problem document whose message is also `error`, for everything that fails.

`exo` prints `title` and `detail`, older clients `error`; all must be texts. It repeats what is answered 429 or 5xx.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stoker.dialects import frame
from stoker.dialects.exoscale.wire.base import ProblemOut
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


class Precondition(StokerError):
    """What was asked for needs what is not there: hardware, a model, a free name. `deployments` are in the way."""

    def __init__(self, message: str, *, deployments: Sequence[str] | None = None) -> None:
        super().__init__(message)
        self.deployments = deployments


_STATUS: tuple[tuple[type[StokerError], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (Unauthenticated, 403),
    (Forbidden, 403),
    (Precondition, 412),
    (Unavailable, 500),
    # Invalid, Unsupported, Saturated.
    (StokerError, 400),
)
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemOut, "description": HTTPStatus(status).phrase} for status in (400, 403, 404, 409, 412, 500)
}
# Where things stand in an endpoint's spec, and what the field is called here.
_FIELDS = (
    ("/launch/parameters", "inference-engine-parameters"),
    ("/launch/engine_version", "inference-engine-version"),
    ("/launch/model", "model"),
    ("/pools/0/hardware/gpu_family", "gpu-type"),
    ("/pools/0/hardware/gpu_count", "gpu-count"),
    ("/pools/0/hardware", "gpu-type"),
    ("/pools/0/bounds", "replicas"),
)
_NUMBERS = re.compile(r"/(\d+)\Z")


def problem(
    status: int, detail: str, *, problems: Sequence[Problem] = (), deployments: Sequence[str] | None = None
) -> JSONResponse:
    """An error's answer; `problems` are those of single fields."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "error": detail,
    }
    if problems:
        body["errors"] = [_entry(each) for each in problems[:ERRORS_SHOWN_MAX]]
    if deployments is not None:
        body["deployments"] = list(deployments)
    return JSONResponse(body, status)


def _entry(each: Problem) -> dict[str, str]:
    pointer = translated(each.pointer)[:FIELD_CHARS_MAX].encode("utf-8", "replace").decode()
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    location = "$" + "".join(f"[{part}]" if part.isdigit() else f"['{part}']" for part in parts)
    return {"path": ".".join(parts), "detail": each.detail, "pointer": pointer, "location": location}


def translated(pointer: str) -> str:
    """A place in an endpoint's spec as a place in a request of this API."""
    for ours, theirs in _FIELDS:
        if pointer == ours or pointer.startswith(f"{ours}/"):
            number = _NUMBERS.search(pointer[len(ours) :])
            return f"/{theirs}/{number[1]}" if number else f"/{theirs}"
    return pointer


async def _stoker_error(_request: Request, exc: Exception) -> Response:
    status = next(status for kind, status in _STATUS if isinstance(exc, kind))
    return problem(
        status,
        str(exc),
        problems=exc.problems if isinstance(exc, Invalid) else (),
        deployments=exc.deployments if isinstance(exc, Precondition) else None,
    )


async def _validation_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    errors = exc.errors()
    if any(error["type"] == "json_invalid" for error in errors):
        return problem(400, "the body is not JSON")
    problems = tuple(Problem(_pointer(error["loc"]), _sentence(error)) for error in errors)
    first = problems[0]
    shown = translated(first.pointer)[1:FIELD_CHARS_MAX].encode("utf-8", "replace").decode()
    return problem(400, f"{shown or 'the body'}: {first.detail}", problems=problems)


def _pointer(location: Sequence[int | str]) -> str:
    where = location[1:] if location and location[0] in ("body", "query", "path", "header") else location
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in where)


def _sentence(error: Any) -> str:
    if error["type"] == "missing":
        return "this is required"
    if error["type"] == "enum" or error["type"] == "literal_error":
        # The wording by which `exo` knows that it has a list of values to show.
        values = [part.strip().strip("'") for part in re.split(r", | or ", error["ctx"]["expected"])]
        return f"does not have a value in the enumeration {json.dumps(values)}"
    if error["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return "this must be an object"
    message = str(error["msg"])
    return message[:1].lower() + message[1:]


async def _http_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code in (404, 405):
        return problem(404, "there is nothing at this address, or it does not take this method")
    return problem(400, exc.detail)


async def _server_error(_request: Request, _exc: Exception) -> Response:
    # The server logs what it was; the caller learns that it is not theirs to mend.
    return problem(500, "something went wrong inside Stoker; its log says what")


ERRORS = frame.Errors(
    stoker=_stoker_error,
    validation=_validation_error,
    http=_http_error,
    server=_server_error,
    described=RESPONSES,
)

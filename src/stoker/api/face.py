"""The native API as an application: its errors (problem+json, RFC 9457), its bounds, its routes.

Made by `stoker.faces` with the services; reached below `/api/v1`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stoker.api.methods import allowed, below
from stoker.api.problems import problem
from stoker.api.routes import (
    endpoints,
    hardware,
    installation,
    keys,
    models,
    projects,
    records,
    reservations,
    secrets,
    tasks,
    templates,
    usage,
    volumes,
)
from stoker.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Problem,
    Saturated,
    StokerError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from stoker.web import Services

PREFIX = "/api/v1"
# What Python calls otherwise than JSON does.
_KINDS = {
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "tuple_type": "a list",
    "frozen_set_type": "a list",
}
# Names in a body are the caller's, and may be as long as the body.
POINTER_CHARS_MAX = 1_024
# What is full or away is asked again soon: a person waits for it.
RETRY_AFTER_S = "2"
_STATUS: tuple[tuple[type[StokerError], int], ...] = (
    (TooLarge, 413),
    (Invalid, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (Saturated, 429),
    (Unavailable, 503),
    (Unsupported, 501),
)


async def _stoker_error(_request: Request, exc: Exception) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(exc, kind)), 500)
    later = {"Retry-After": RETRY_AFTER_S} if status in (429, 503) else {}
    return problem(status, str(exc), problems=exc.problems if isinstance(exc, Invalid) else (), headers=later)


async def _validation_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    errors = exc.errors()
    if any(error["type"] == "json_invalid" for error in errors):
        reason = str(errors[0].get("ctx", {}).get("error", "")) or "it cannot be read"
        return problem(400, f"the body is not JSON: {reason}")
    problems = tuple(Problem(_pointer(_place(error["loc"], exc.body)), _sentence(error)) for error in errors)
    first = problems[0]
    return problem(422, f"{first.pointer or 'the body'}: {first.detail}", problems=problems)


def _place(location: tuple[int | str, ...], body: object) -> tuple[int | str, ...]:
    """Without what stands for the kind of an object where there are several: the document has no such key."""
    found: list[int | str] = []
    value = body
    for index, part in enumerate(location):
        if index == 0 and part == "body":
            found.append(part)
            continue
        inner = index + 1 < len(location)
        if inner and isinstance(value, dict) and isinstance(part, str) and part not in value:
            continue
        found.append(part)
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            value = None
    return tuple(found)


def _pointer(location: tuple[int | str, ...]) -> str:
    where = location[1:] if location and location[0] in ("body", "query", "path", "header") else location
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in where)
    # A name in the body may have half a character in it, which no answer can be written with.
    return pointer[:POINTER_CHARS_MAX].encode("utf-8", "replace").decode()


def _sentence(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    if error["type"] == "missing":
        return "this is required"
    if error["type"] in _KINDS:
        return f"this must be {_KINDS[error['type']]}"
    message = str(error["msg"])
    return message[:1].lower() + message[1:]


async def http_error(request: Request, exc: Exception) -> Response:
    """What is wrong with the address or the method, for all management addresses."""
    assert isinstance(exc, HTTPException)
    detail = exc.detail if exc.detail != HTTPStatus(exc.status_code).phrase else "there is nothing at this address"
    headers = dict(exc.headers or {})
    if exc.status_code == 405:
        detail = "this address does not take that method"
        # One route knows its own methods alone; an address may have several routes.
        methods = allowed(below(request.scope))
        headers |= {"Allow": ", ".join(methods)} if methods else {}
    return problem(exc.status_code, detail, headers=headers)


async def server_error(_request: Request, _exc: Exception) -> Response:
    """The server logs what it was; the caller learns that it is not theirs to mend."""
    return problem(500, "something went wrong inside Stoker; its log says what")


def make(services: Services) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="Stoker",
        summary="Elastic inference endpoints on machines of your own",
        version="1",
        # Served by `stoker.faces`, one level up, for all versions of the API together.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # An address is there or it is not: a redirection would be no problem document.
        redirect_slashes=False,
        servers=[{"url": PREFIX}],
    )
    app.state.services = services
    app.add_exception_handler(StokerError, _stoker_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, server_error)
    for module in (
        endpoints,
        tasks,
        records,
        reservations,
        usage,
        models,
        templates,
        volumes,
        projects,
        keys,
        secrets,
        hardware,
        installation,
    ):
        app.include_router(module.router)
    return app

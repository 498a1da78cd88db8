"""The application of a dialect: what all of them have alike, with their own errors. Knows no dialect.

Made at the first request for it, as it needs FastAPI.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stoker.domain.errors import StokerError
from stoker.web import Services

Answer = Callable[[Request, Exception], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """How a dialect answers what fails, and what its description says of that, by status."""

    stoker: Answer
    validation: Answer
    http: Answer
    server: Answer
    described: Mapping[int | str, dict[str, Any]]


def application(services: Services, *, title: str, version: str, errors: Errors, prefix: str = "") -> FastAPI:
    """One without routes, whose description is at `{prefix}/openapi.json`."""
    app = FastAPI(
        title=title,
        version=version,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{prefix}/openapi.json",
        # Its own errors are what is documented, not the framework's.
        responses=dict(errors.described),
    )
    app.state.services = services
    app.add_exception_handler(StokerError, errors.stoker)
    app.add_exception_handler(RequestValidationError, errors.validation)
    app.add_exception_handler(HTTPException, errors.http)
    app.add_exception_handler(Exception, errors.server)
    app.openapi = lambda: _description(app)  # type: ignore[method-assign]
    return app


def _description(app: FastAPI) -> dict[str, Any]:
    description = FastAPI.openapi(app)
    for methods in description["paths"].values():
        for operation in methods.values():
            # What does not fit is answered by the dialect's own status, not by the framework's.
            operation["responses"].pop("422", None)
    return description


def field_of(pointer: str, fields: Sequence[tuple[str, str]], *, chars_max: int) -> str:
    """A place in an endpoint's spec, or in a request, as the name of a field: the first of `fields` (place, name) that
    it is in, else its own parts with dots.
    """
    for ours, theirs in fields:
        if pointer == ours or pointer.startswith(f"{ours}/"):
            return theirs
    shown = ".".join(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    return shown[:chars_max].encode("utf-8", "replace").decode()

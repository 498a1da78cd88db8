"""Problem documents (RFC 9457), which every management answer that is no success is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

from stoker.domain.errors import Problem


def problem(
    status: int,
    detail: str,
    *,
    problems: tuple[Problem, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem document. `errors` names the places in the body, as JSON pointers."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if problems:
        body["errors"] = [{"pointer": p.pointer, "detail": p.detail} for p in problems]
    more = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse(body, status, headers={**more, **(headers or {})}, media_type="application/problem+json")

"""Errors as Novita's clients read them: `code`, `reason`, `message` and `metadata`."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stoker.domain.errors import StokerError, Unauthenticated, Unavailable


def answer(status: int, reason: str, message: str) -> JSONResponse:
    """An error's answer."""
    return JSONResponse({"code": status, "reason": reason, "message": message, "metadata": {}}, status)


async def _stoker_error(_request: Request, exc: Exception) -> Response:
    if isinstance(exc, Unauthenticated):
        return answer(401, "UNAUTHORIZED", str(exc))
    if isinstance(exc, Unavailable):
        return answer(500, "UNKNOWN", str(exc))
    return answer(400, "REQUEST", str(exc))


async def _validation_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    shown = "; ".join(f"{'.'.join(map(str, error['loc'][1:]))}: {error['msg']}" for error in exc.errors()[:20])
    return answer(400, "VALIDATOR_PARAM", shown.encode("utf-8", "replace").decode())


async def _http_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return answer(exc.status_code, "REQUEST", str(exc.detail))


async def _server_error(_request: Request, _exc: Exception) -> Response:
    # The server logs what it was; the caller learns that it is not theirs to mend.
    return answer(500, "UNKNOWN", "something went wrong inside Stoker; its log says what")


def install(app: FastAPI) -> None:
    """Have all errors of this application answered so."""
    app.add_exception_handler(StokerError, _stoker_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _server_error)

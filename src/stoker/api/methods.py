"""What every address of the native API does beside its own methods: HEAD is GET without the body, OPTIONS says what
there is, and a page from elsewhere may call where the settings let its origin. Used by `stoker.faces`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stoker.api.actions import ROUTES
from stoker.api.problems import problem

# What a page may send and read beyond what every page may.
_HEADERS_IN = ("Authorization", "Content-Type", "Idempotency-Key", "X-API-Key", "X-Stoker-Project")
_HEADERS_OUT = ("Idempotent-Replayed", "Retry-After", "X-Stoker-Reason")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_PATTERNS = tuple((method, compile_path(path)[0]) for method, path in ROUTES)


def allowed(path: str) -> tuple[str, ...]:
    """The methods that an address below the native API takes; none for one that is not there."""
    found = {method for method, pattern in _PATTERNS if pattern.match(path)}
    if not found:
        return ()
    return tuple(sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())))


def below(scope: Scope) -> str:
    """The path of a request below the place where the application stands."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class Methods:
    """Answers HEAD and OPTIONS."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        methods = allowed(below(scope))
        if scope["method"] == "OPTIONS" and methods:
            await Response(status_code=204, headers={"Allow": ", ".join(methods)})(scope, receive, send)
        elif scope["method"] == "HEAD" and "HEAD" in methods:
            await self._head(scope, send)
        else:
            await self._app(scope, receive, send)

    async def _head(self, scope: Scope, send: Send) -> None:
        begun = asyncio.Event()

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                begun.set()

        async def gone() -> Message:
            # What would stream on, as a log that is followed does, ends as when its reader has left.
            await begun.wait()
            return {"type": "http.disconnect"}

        await self._app({**scope, "method": "GET"}, gone, without_body)


class Cors(CORSMiddleware):
    """The rules of browsers for pages of other origins. Keys are sent in headers: no cookie counts."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app, allow_origins=origins, allow_methods=_METHODS, allow_headers=_HEADERS_IN, expose_headers=_HEADERS_OUT
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Whether the page may send what it is about to."""
        answer = super().preflight_response(request_headers)
        headers = {
            name: value for name, value in answer.headers.items() if name not in ("content-length", "content-type")
        }
        if answer.status_code < 400:
            return Response(status_code=204, headers=headers)
        return problem(403, "the setting cors_origins does not let this page send that", headers=headers)


def middleware(cors_origins: Sequence[str]) -> list[Middleware]:
    """What stands before the native API."""
    cors = [Middleware(Cors, origins=tuple(cors_origins))] if cors_origins else []
    return [*cors, Middleware(Methods)]

"""The application: errors as its clients read them, and the routes of each noun. Made at the first request for it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from stoker.dialects.vast import errors
from stoker.dialects.vast.routes import endpoints, engine, groups, reports, routing, side, templates
from stoker.web import Services


def make(services: Services) -> ASGIApp:
    """The application. Addresses end in a slash or do not, and may begin with two, as clients have it."""
    app = FastAPI(
        title="Vast.ai Serverless, as Stoker speaks it",
        version="1.9.1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        # Its own errors are what is documented, not the framework's.
        responses=errors.RESPONSES,
    )
    app.state.services = services
    app.router.redirect_slashes = False
    errors.install(app)
    for module in (endpoints, groups, engine, routing, reports, templates, side):
        app.include_router(module.router)
    app.openapi = lambda: _description(app)  # type: ignore[method-assign]
    return _Slashed(app)


class _Slashed:
    """Takes a path's doubled slashes for one, and its last one away."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            root = scope.get("root_path", "")
            rest = "/" + "/".join(part for part in scope["path"][len(root) :].split("/") if part)
            scope = {**scope, "path": root + rest, "raw_path": (root + rest).encode()}
        await self._app(scope, receive, send)


def _description(app: FastAPI) -> dict[str, Any]:
    description = FastAPI.openapi(app)
    for methods in description["paths"].values():
        for operation in methods.values():
            # What does not fit is 400 here, as it is there.
            operation["responses"].pop("422", None)
    return description

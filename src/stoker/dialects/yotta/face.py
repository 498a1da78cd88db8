"""The application: errors as its clients read them, and the routes of each noun. Made at the first request for it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from stoker.dialects.yotta import errors
from stoker.dialects.yotta.routes import catalogue, credentials, endpoints, tasks, workers
from stoker.web import Services

PREFIX = "/v2"


class Collapsed:
    """One slash for several: clients put their paths behind an address that may end with one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "//" in scope.get("path", ""):
            path = scope["path"]
            while "//" in path:
                path = path.replace("//", "/")
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)


def make(services: Services) -> ASGIApp:
    """The application."""
    app = FastAPI(
        title="Yotta Elastic Deployment, as Stoker speaks it",
        version="2.0.0",
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        # Its own errors are what is documented, not the framework's.
        responses=errors.RESPONSES,
    )
    app.state.services = services
    # An address is there or it is not, with its slash or without.
    app.router.redirect_slashes = False
    errors.install(app)
    for module in (endpoints, workers, tasks, catalogue, credentials):
        app.include_router(module.router, prefix=PREFIX)
    app.include_router(catalogue.search)
    # What does not fit is 400 here, as it is there.
    app.openapi = lambda: _description(app)  # type: ignore[method-assign]
    return Collapsed(app)


def _description(app: FastAPI) -> dict[str, Any]:
    description = FastAPI.openapi(app)
    for methods in description["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
    return description

"""The application: errors as its clients read them, and the routes of each noun. Made at the first request for it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from stoker.dialects import frame
from stoker.dialects.yotta.errors import ERRORS
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
    app = frame.application(
        services, title="Yotta Elastic Deployment, as Stoker speaks it", version="2.0.0", errors=ERRORS, prefix=PREFIX
    )
    # An address is there or it is not, with its slash or without.
    app.router.redirect_slashes = False
    for module in (endpoints, workers, tasks, catalogue, credentials):
        app.include_router(module.router, prefix=PREFIX)
    app.include_router(catalogue.search)
    return Collapsed(app)

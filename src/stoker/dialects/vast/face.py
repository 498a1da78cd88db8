"""The application: errors as its clients read them, and the routes of each noun. Made at the first request for it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from stoker.dialects import frame
from stoker.dialects.vast.errors import ERRORS
from stoker.dialects.vast.routes import endpoints, engine, groups, reports, routing, side, templates
from stoker.web import Services


def make(services: Services) -> ASGIApp:
    """The application. Addresses end in a slash or do not, and may begin with two, as clients have it."""
    app = frame.application(services, title="Vast.ai Serverless, as Stoker speaks it", version="1.9.1", errors=ERRORS)
    app.router.redirect_slashes = False
    for module in (endpoints, groups, engine, routing, reports, templates, side):
        app.include_router(module.router)
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

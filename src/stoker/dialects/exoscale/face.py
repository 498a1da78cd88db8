"""The application: errors as its clients read them, and the routes of each noun. Made at the first request for it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from stoker.dialects.exoscale import errors
from stoker.dialects.exoscale.routes import catalogue, deployments, keys, models, operations
from stoker.web import Services

PREFIX = "/v2"


def make(services: Services) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="Exoscale Dedicated Inference, as Stoker speaks it",
        version="2.0.0",
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        # Its own errors are what is documented, not the framework's.
        responses=errors.RESPONSES,
    )
    app.state.services = services
    errors.install(app)
    for module in (deployments, models, operations, keys, catalogue):
        app.include_router(module.router, prefix=PREFIX)
    # What does not fit is 400 here, as it is there.
    app.openapi = lambda: _description(app)  # type: ignore[method-assign]
    return app


def _description(app: FastAPI) -> dict[str, Any]:
    description = FastAPI.openapi(app)
    for methods in description["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
    return description

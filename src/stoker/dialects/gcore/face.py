"""The application: errors as its clients read them, and the routes of each noun. Made at the first request for it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from stoker.dialects.gcore import errors
from stoker.dialects.gcore.routes import (
    account,
    applications,
    catalogue,
    credentials,
    deployments,
    keys,
    secrets,
    tasks,
)
from stoker.web import Services

PREFIX = "/cloud"


def make(services: Services) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="Gcore Everywhere Inference, as Stoker speaks it",
        version="3.0.0",
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
    for module in (applications, deployments, tasks, keys, secrets, credentials, catalogue, account):
        app.include_router(module.router, prefix=PREFIX)
    app.include_router(tasks.short)
    app.openapi = lambda: _description(app)  # type: ignore[method-assign]
    return app


def _description(app: FastAPI) -> dict[str, Any]:
    description = FastAPI.openapi(app)
    for methods in description["paths"].values():
        for operation in methods.values():
            # What does not fit is 400 here, as it is there.
            operation["responses"].pop("422", None)
    return description

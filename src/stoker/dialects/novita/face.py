"""The application: errors as its clients read them, and the routes of each noun. Made at the first request for it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from stoker.dialects.novita import errors
from stoker.dialects.novita.routes import auths, catalogue, endpoints, jobs, pull, storages
from stoker.web import Services

PREFIX = "/gpu-instance/openapi/v1"
# What at the cloud is another host's.
JOBS = "/v1"


def make(services: Services) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="Novita's serverless GPUs, as Stoker speaks them",
        version="1.0.0",
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
    for module in (endpoints, catalogue, auths, storages):
        app.include_router(module.router, prefix=PREFIX)
    app.include_router(jobs.router, prefix=JOBS)
    # Workers know its addresses from their environment.
    app.include_router(pull.router, prefix="/pull/v2", include_in_schema=False)
    app.openapi = lambda: _description(app)  # type: ignore[method-assign]
    return app


def _description(app: FastAPI) -> dict[str, Any]:
    description = FastAPI.openapi(app)
    for methods in description["paths"].values():
        for operation in methods.values():
            # What does not fit is 400 here, as it is there.
            operation["responses"].pop("422", None)
    return description

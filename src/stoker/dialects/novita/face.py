"""The application: errors as its clients read them, and the routes of each noun. Made at the first request for it."""

from __future__ import annotations

from fastapi import FastAPI

from stoker.dialects import frame
from stoker.dialects.novita.errors import ERRORS
from stoker.dialects.novita.routes import auths, catalogue, endpoints, jobs, pull, storages
from stoker.web import Services

PREFIX = "/gpu-instance/openapi/v1"
# What at the cloud is another host's.
JOBS = "/v1"


def make(services: Services) -> FastAPI:
    """The application."""
    app = frame.application(
        services, title="Novita's serverless GPUs, as Stoker speaks them", version="1.0.0", errors=ERRORS, prefix=PREFIX
    )
    # An address is there or it is not, with its slash or without.
    app.router.redirect_slashes = False
    for module in (endpoints, catalogue, auths, storages):
        app.include_router(module.router, prefix=PREFIX)
    app.include_router(jobs.router, prefix=JOBS)
    # Workers know its addresses from their environment.
    app.include_router(pull.router, prefix="/pull/v2", include_in_schema=False)
    return app

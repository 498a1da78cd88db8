"""The application: errors as its clients read them, and the routes of each noun. Made at the first request for it."""

from __future__ import annotations

from fastapi import FastAPI

from stoker.dialects import frame
from stoker.dialects.exoscale.errors import ERRORS
from stoker.dialects.exoscale.routes import catalogue, deployments, keys, models, operations
from stoker.web import Services

PREFIX = "/v2"


def make(services: Services) -> FastAPI:
    """The application."""
    app = frame.application(
        services,
        title="Exoscale Dedicated Inference, as Stoker speaks it",
        version="2.0.0",
        errors=ERRORS,
        prefix=PREFIX,
    )
    for module in (deployments, models, operations, keys, catalogue):
        app.include_router(module.router, prefix=PREFIX)
    return app

"""The application: errors as its clients read them, and the routes of each noun. Made at the first request for it."""

from __future__ import annotations

from fastapi import FastAPI

from stoker.dialects import frame
from stoker.dialects.gcore.errors import ERRORS
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
    app = frame.application(
        services, title="Gcore Everywhere Inference, as Stoker speaks it", version="3.0.0", errors=ERRORS, prefix=PREFIX
    )
    # An address is there or it is not, with its slash or without.
    app.router.redirect_slashes = False
    for module in (applications, deployments, tasks, keys, secrets, credentials, catalogue, account):
        app.include_router(module.router, prefix=PREFIX)
    app.include_router(tasks.short)
    return app

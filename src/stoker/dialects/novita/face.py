"""The application: errors as its clients read them, and the routes of each noun. Made at the first request for it."""

from __future__ import annotations

from fastapi import FastAPI

from stoker.dialects.novita import errors
from stoker.dialects.novita.routes import pull
from stoker.web import Services


def make(services: Services) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="Novita's serverless GPUs, as Stoker speaks them",
        version="2.0.0",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.services = services
    # An address is there or it is not, with its slash or without.
    app.router.redirect_slashes = False
    errors.install(app)
    app.include_router(pull.router, prefix="/pull/v2")
    return app

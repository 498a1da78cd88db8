"""All HTTP faces as one application: the native API, the dialects by prefix and by host, documents, and metrics.

A dialect is a folder of `stoker/dialects/`; there is no list of them. Its types and routes load at its first request.
"""

from __future__ import annotations

import asyncio
import pkgutil
from collections.abc import Sequence
from importlib import import_module

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Host, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stoker import dialects
from stoker.api import face as native
from stoker.api import methods
from stoker.domain.endpoint import Endpoint
from stoker.domain.load import Trial
from stoker.domain.routing import InferenceAddress
from stoker.domain.worker import Worker
from stoker.web import Dialect, Services, Start, WebhookForm


def found() -> tuple[Dialect, ...]:
    """The dialects that are there, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(dialects.__path__) if module.ispkg)
    return tuple(import_module(f"{dialects.__name__}.{name}").DIALECT for name in names)


def hosts_of(spoken: Sequence[Dialect]) -> tuple[str, ...]:
    """The API hosts of all of them."""
    return tuple(host for dialect in spoken for host in dialect.hosts)


def addresses_of(
    spoken: Sequence[Dialect], endpoint: Endpoint, workers: Sequence[Worker]
) -> tuple[InferenceAddress, ...]:
    """The inference addresses of an endpoint in all of them."""
    return tuple(address for dialect in spoken for address in dialect.addresses(endpoint, workers))


def forms_of(spoken: Sequence[Dialect]) -> dict[str, WebhookForm]:
    """How those of them that tell of tasks in their own words do that."""
    return {dialect.name: dialect.webhooks for dialect in spoken if dialect.webhooks is not None}


async def environ_of(spoken: Sequence[Dialect], start: Start) -> dict[str, str]:
    """What all of them hand to a worker that is started."""
    found: dict[str, str] = {}
    for dialect in spoken:
        found |= await dialect.environ(start)
    return found


def trial_of(spoken: Sequence[Dialect], endpoint: Endpoint) -> Trial | None:
    """What an endpoint's workers are to measure first, in one of them."""
    return next((trial for dialect in spoken if (trial := dialect.trial(endpoint)) is not None), None)


class LazyFace:
    """A dialect's application, made at the first request for it."""

    def __init__(self, dialect: Dialect, services: Services) -> None:
        self._dialect = dialect
        self._services = services
        self._app: ASGIApp | None = None
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            async with self._making:
                if self._app is None:
                    # Types of a cloud's whole API take a while to be made: the loops go on meanwhile.
                    self._app = await asyncio.to_thread(self._make)
        await self._app(scope, receive, send)

    def _make(self) -> ASGIApp:
        module, _, function = self._dialect.face.partition(":")
        app: ASGIApp = getattr(import_module(module), function)(self._services)
        return app


def make(
    services: Services, spoken: Sequence[Dialect], metrics: BaseRoute, *, cors_origins: Sequence[str] = ()
) -> Starlette:
    """The application. Hosts of clouds come first: there `/api/v1` is theirs. Pages of `cors_origins` may call the
    native API. What no face answers is a problem document.
    """
    app: FastAPI = native.make(services)
    lazy = {dialect.name: LazyFace(dialect, services) for dialect in spoken}
    whole = Starlette(
        routes=[
            *(Host(host, app=lazy[dialect.name]) for dialect in spoken for host in dialect.hosts),
            Mount(native.PREFIX, app=app, middleware=methods.middleware(cors_origins)),
            Route("/api/openapi.json", lambda _request: JSONResponse(app.openapi())),
            Route("/api/docs", lambda _request: get_swagger_ui_html(openapi_url="/api/openapi.json", title="Stoker")),
            metrics,
            *(Mount(f"/{dialect.name}", app=lazy[dialect.name]) for dialect in spoken),
        ],
        exception_handlers={HTTPException: native.http_error, Exception: native.server_error},
    )
    # An address is there or it is not, with its slash or without.
    whole.router.redirect_slashes = False
    return whole

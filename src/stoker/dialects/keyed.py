"""The frame of dialects' routes: who calls is known, and allowed what they do, before the rest is looked at.

Knows no dialect. Needs FastAPI, so that a dialect imports it with its routes and never in its `__init__`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, admit
from stoker.domain.views import EndpointView
from stoker.web import Services, check_characters, principal_of, read_body, services_of

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class KeyedRoute(APIRoute):
    """A dialect's own says which action each operation is, by its id: `None` is for everybody, and one without a row is
    an error when it is made. It may know its callers in another way than by Stoker's own headers.
    """

    actions: ClassVar[Mapping[str, Action | None]]

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()
        action = self.actions[self.operation_id or ""]

        async def keyed(request: Request) -> Response:
            if action is not None:
                request.state.principal = caller = await self.caller(request)
                admit(caller, action)
            check_characters(await read_body(request))
            return await handle(request)

        return keyed

    async def caller(self, request: Request) -> Principal:
        """Who calls. Raises `Unauthenticated`. Whoever needs the body for that reads it by `read_body`."""
        return principal_of(request)


@dataclass(frozen=True, slots=True)
class Context:
    """One request's caller, and what it may use."""

    principal: Principal
    services: Services

    async def views(self) -> list[EndpointView]:
        """Every endpoint of the project that the caller may see."""
        return await self.services.views.every(self.principal)


def found(request: Request) -> tuple[Principal, Services]:
    """What the route has found out of this request, of which a dialect makes its `Context`."""
    principal = request.state.principal
    assert isinstance(principal, Principal)
    return principal, services_of(request)

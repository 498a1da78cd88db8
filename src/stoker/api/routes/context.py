"""What every native route is given: the caller, whom `stoker.api.once` has let in, and the services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query
from starlette.requests import Request

from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, permits
from stoker.domain.endpoint import Endpoint
from stoker.domain.errors import Invalid
from stoker.web import Services, services_of

PAGE_ITEMS_MAX = 500


@dataclass(frozen=True, slots=True)
class Context:
    """One request's caller and what it may use."""

    principal: Principal
    services: Services

    @property
    def reveals(self) -> bool:
        """May the caller see what it could also set?"""
        return permits(self.principal, Action.ENDPOINT_REVEAL)

    async def endpoint(self, reference: str, action: Action = Action.ENDPOINT_READ) -> Endpoint:
        """The endpoint that a path names, for that action. Raises `NotFound`."""
        return await self.services.views.find(reference, self.principal, action)


# Not a plain function: the framework would run it in a thread, beside the loop that changes the keys.
async def _context(request: Request) -> Context:
    principal = request.state.principal
    assert isinstance(principal, Principal)
    return Context(principal, services_of(request))


Caller = Annotated[Context, Depends(_context)]
Limit = Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX)]
Cursor = Annotated[str | None, Query(max_length=32)]


def after_of(cursor: str | None) -> int:
    """The number that a page's cursor stands for. Raises `Invalid`."""
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise Invalid.at("/cursor", "a cursor is what an earlier page gave as next")
    return int(cursor)


def cursor_of(number: int | None) -> str | None:
    """The cursor of the page after this number."""
    return None if number is None else str(number)

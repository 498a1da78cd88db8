"""Who calls: a key of Stoker's as bearer, in the body or in the query, in this order of looking.

The table says which action of `domain.authorisation` each operation is, `None` for what anybody may ask; one without a
row is an error when it is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path
from starlette.requests import Request

from stoker.dialects import keyed
from stoker.dialects.vast.wire.base import INT_MAX
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action
from stoker.domain.endpoint import Endpoint, Phase
from stoker.domain.errors import NotFound, Unauthenticated
from stoker.domain.views import EndpointView
from stoker.web import Services, bearer_or_api_key, read_body, services_of

ACTIONS: Mapping[str, Action | None] = {
    "create-endpoint": Action.ENDPOINT_CREATE,
    "list-endpoints": Action.ENDPOINT_LIST,
    "show-endpoint": Action.ENDPOINT_READ,
    "update-endpoint": Action.ENDPOINT_UPDATE,
    "delete-endpoint": Action.ENDPOINT_DELETE,
    "create-workergroup": Action.ENDPOINT_UPDATE,
    "list-workergroups": Action.ENDPOINT_LIST,
    "update-workergroup": Action.ENDPOINT_UPDATE,
    "delete-workergroup": Action.ENDPOINT_UPDATE,
    "spend": Action.ENDPOINT_LIST,
    "endpoint-logs": Action.ENDPOINT_READ,
    "workergroup-logs": Action.ENDPOINT_READ,
    "endpoint-workers": Action.ENDPOINT_READ,
    "workergroup-workers": Action.ENDPOINT_READ,
    "update-workers": Action.ENDPOINT_UPDATE,
    "route": Action.RESERVATION_CREATE,
    "create-template": Action.TEMPLATE_CREATE,
    "list-templates": Action.TEMPLATE_LIST,
    "current-user": Action.INSTALLATION_READ,
    "gpu-names": None,
    "public-key": None,
    "certificate": None,
    "worker-status": None,
    "delete-requests": None,
}


class KeyedRoute(keyed.KeyedRoute):
    """A route of this dialect."""

    actions = ACTIONS

    async def caller(self, request: Request) -> Principal:
        body = await read_body(request)
        secret = bearer_or_api_key(request) or _in_body(body) or request.query_params.get("api_key")
        if not secret:
            raise Unauthenticated("Invalid user key")
        request.state.secret = secret
        return services_of(request).keys.principal(secret)


def _in_body(body: bytes) -> str | None:
    if b'"api_key"' not in body:
        return None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        # Told by whoever reads it.
        return None
    found = value.get("api_key") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class Context:
    """One request's caller, the key that was shown, and what it may use."""

    principal: Principal
    secret: str
    services: Services

    async def views(self) -> list[EndpointView]:
        """Every endpoint of the project that the caller may see, but for those that are being deleted."""
        found = await self.services.views.every(self.principal)
        return [view for view in found if view.endpoint.phase is not Phase.DELETING]

    async def numbered(self, number: int | None, action: Action = Action.ENDPOINT_READ) -> Endpoint:
        """The endpoint of that number. Raises `NotFound`."""
        return await self._found(str(number), action, lambda found: found.number == number)

    async def named(self, name: str, action: Action = Action.ENDPOINT_READ) -> Endpoint:
        """The endpoint of exactly that name, or slug. Raises `NotFound`."""
        return await self._found(name, action, lambda found: name in (found.spec.name, found.slug))

    async def _found(self, reference: str, action: Action, is_it: Callable[[Endpoint], bool]) -> Endpoint:
        try:
            found = await self.services.views.find(reference, self.principal, action)
        except NotFound:
            found = None
        if found is None or not is_it(found) or found.phase is Phase.DELETING:
            raise NotFound(f"Endpoint {reference[:64]} for user {self.principal.project} not found.")
        return found


# Not a plain function: the framework would run it in a thread, beside the loop that changes the keys.
async def _context(request: Request) -> Context:
    principal, services = keyed.found(request)
    return Context(principal, request.state.secret, services)


Caller = Annotated[Context, Depends(_context)]
Id = Annotated[int, Path(ge=0, le=INT_MAX)]

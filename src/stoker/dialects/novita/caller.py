"""Who calls: a bearer key of Stoker's.

The table says which action of `domain.authorisation` each operation is; one without a row is an error when it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from stoker.dialects import keyed
from stoker.dialects.novita.errors import Refused
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action
from stoker.domain.endpoint import Endpoint
from stoker.domain.errors import NotFound, Unauthenticated
from stoker.web import bearer_or_api_key, principal_of

ACTIONS: Mapping[str, Action] = {
    "create-endpoint": Action.ENDPOINT_CREATE,
    "list-endpoints": Action.ENDPOINT_LIST,
    "get-endpoint": Action.ENDPOINT_READ,
    "update-endpoint": Action.ENDPOINT_UPDATE,
    "delete-endpoint": Action.ENDPOINT_DELETE,
    "get-limits": Action.INSTALLATION_READ,
    "list-clusters": Action.INSTALLATION_READ,
    "list-products": Action.INSTALLATION_READ,
    "list-cpu-products": Action.INSTALLATION_READ,
    "save-registry-auth": Action.CREDENTIAL_CREATE,
    "list-registry-auths": Action.CREDENTIAL_LIST,
    "delete-registry-auth": Action.CREDENTIAL_DELETE,
    "create-storage": Action.VOLUME_CREATE,
    "list-storages": Action.VOLUME_LIST,
    "list-storages-short": Action.VOLUME_LIST,
    "update-storage": Action.VOLUME_UPDATE,
    "delete-storage": Action.VOLUME_DELETE,
    "run": Action.TASK_SUBMIT,
    "run-sync": Action.TASK_SUBMIT,
    "get-status": Action.TASK_READ,
    "get-stream": Action.TASK_READ,
    "cancel": Action.TASK_CANCEL,
    "cancel-by-get": Action.TASK_CANCEL,
    "get-health": Action.TASK_READ,
    "get-stats": Action.TASK_READ,
    "purge-queue": Action.QUEUE_CHANGE,
}


class KeyedRoute(keyed.KeyedRoute):
    """A route of this dialect. Whatever callers say that their bodies are: there is nothing but JSON here."""

    actions = ACTIONS

    async def caller(self, request: Request) -> Principal:
        others = [pair for pair in request.scope["headers"] if pair[0] != b"content-type"]
        request.scope["headers"] = [*others, (b"content-type", b"application/json")]
        if not bearer_or_api_key(request):
            raise Unauthenticated("there is no API key in the request: Authorization: Bearer KEY")
        return principal_of(request)


@dataclass(frozen=True, slots=True)
class Context(keyed.Context):
    """One request's caller, and what it may use."""

    async def endpoint(self, id: str) -> Endpoint:
        """The endpoint with that id, or else of that name. Raises `Refused`."""
        try:
            return await self.services.views.find(id, self.principal)
        except NotFound as exc:
            raise Refused("SERVERLESS_ENDPOINT_NOT_FOUND", f"there is no endpoint {id[:64]!r}") from exc


# Not a plain function: the framework would run it in a thread, beside the loop that changes the keys.
async def _context(request: Request) -> Context:
    return Context(*keyed.found(request))


Caller = Annotated[Context, Depends(_context)]

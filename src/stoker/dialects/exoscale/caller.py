"""Who calls: a signing pair of id and secret as Exoscale's clients use it, or a bearer key for Stoker's own tools.

The table says which action of `domain.authorisation` each operation is; one without a row is an error when it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Depends
from starlette.requests import Request

from stoker.dialects import keyed
from stoker.dialects.exoscale import signature
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action
from stoker.domain.endpoint import Endpoint
from stoker.domain.errors import NotFound
from stoker.web import principal_of, read_body, services_of

# By operation id. `None`: for everybody, signed or not.
ACTIONS: Mapping[str, Action | None] = {
    "list-deployments": Action.ENDPOINT_LIST,
    "create-deployment": Action.ENDPOINT_CREATE,
    "get-deployment": Action.ENDPOINT_READ,
    "update-deployment": Action.ENDPOINT_UPDATE,
    "delete-deployment": Action.ENDPOINT_DELETE,
    "scale-deployment": Action.ENDPOINT_SCALE,
    "reveal-deployment-api-key": Action.ENDPOINT_REVEAL,
    "get-deployment-logs": Action.ENDPOINT_READ,
    "get-inference-engine-help": Action.INSTALLATION_READ,
    "list-ai-instance-types": Action.INSTALLATION_READ,
    "list-models": Action.MODEL_LIST,
    "create-model": Action.MODEL_CREATE,
    "get-model": Action.MODEL_READ,
    "delete-model": Action.MODEL_DELETE,
    "get-operation": Action.ENDPOINT_READ,
    "list-zones": None,
    "list-ai-api-keys": Action.KEY_LIST,
    "create-ai-api-key": Action.KEY_CREATE,
    "get-ai-api-key": Action.KEY_READ,
    "delete-ai-api-key": Action.KEY_REVOKE,
    "get-user-org-consumption-quota": Action.INSTALLATION_READ,
}


class SignedRoute(keyed.KeyedRoute):
    """A route of this dialect."""

    actions = ACTIONS

    async def caller(self, request: Request) -> Principal:
        return _principal(request, await read_body(request))


def _principal(request: Request, body: bytes) -> Principal:
    services = services_of(request)
    header = request.headers.get("authorization", "")
    if header.partition(" ")[0] != signature.SCHEME:
        return principal_of(request)
    given = signature.parse(header)
    principal, secret = services.keys.signing(given.credential)
    path = request.scope["raw_path"].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    # A proxy that has Stoker below a prefix takes it away, and the client has signed it.
    before = urlsplit(services.url).path
    paths = (path, before + path) if before else (path,)
    texts = [signature.signed_text(given, method=request.method, path=each, query=query, body=body) for each in paths]
    signature.verify(given, texts, secret, now=services.clock())
    return principal


@dataclass(frozen=True, slots=True)
class Context(keyed.Context):
    """One request's caller and what it may use."""

    async def endpoint(self, id: str) -> Endpoint:
        """The endpoint of that id, and no other name of one. Raises `NotFound`."""
        wanted = checked_id(id, "deployment")
        found = await self.services.views.find(wanted, self.principal)
        if found.id != wanted:
            raise NotFound(f"no deployment {wanted}")
        return found


def checked_id(id: str, what: str) -> str:
    """A UUID in its usual form. Raises `NotFound` for anything else, which is no id of anything."""
    try:
        return str(UUID(id))
    except ValueError:
        raise NotFound(f"no {what} {id[:64]!r}") from None


# Not a plain function: the framework would run it in a thread, beside the loop that changes the keys.
async def _context(request: Request) -> Context:
    return Context(*keyed.found(request))


Caller = Annotated[Context, Depends(_context)]

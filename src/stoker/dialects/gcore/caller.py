"""Who calls: `Authorization: APIKey` with a key of Stoker's, or a bearer key for Stoker's own tools.

The table says which action of `domain.authorisation` each operation is; one without a row is an error when it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Query
from starlette.requests import Request

from stoker.dialects import keyed
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action
from stoker.domain.endpoint import Endpoint
from stoker.domain.errors import NotFound, Unauthenticated
from stoker.web import bearer_or_api_key, services_of

PAGE_ITEMS_MAX = 1_000

ACTIONS: Mapping[str, Action] = {
    "create-deployment": Action.ENDPOINT_CREATE,
    "list-deployments": Action.ENDPOINT_LIST,
    "get-deployment": Action.ENDPOINT_READ,
    "update-deployment": Action.ENDPOINT_UPDATE,
    "delete-deployment": Action.ENDPOINT_DELETE,
    "start-deployment": Action.ENDPOINT_START,
    "stop-deployment": Action.ENDPOINT_STOP,
    "list-logs": Action.ENDPOINT_READ,
    "get-deployment-api-key": Action.ENDPOINT_REVEAL,
    "check-limits": Action.INSTALLATION_READ,
    "list-flavors": Action.INSTALLATION_READ,
    "get-flavor": Action.INSTALLATION_READ,
    "get-capacity": Action.INSTALLATION_READ,
    "list-models": Action.MODEL_LIST,
    "get-model": Action.MODEL_READ,
    "list-projects": Action.PROJECT_LIST,
    "get-project": Action.PROJECT_READ,
    "list-regions": Action.INSTALLATION_READ,
    "get-region": Action.INSTALLATION_READ,
    "preview-deployment-price": Action.INSTALLATION_READ,
    "preview-application-price": Action.INSTALLATION_READ,
    "list-application-templates": Action.INSTALLATION_READ,
    "get-application-template": Action.INSTALLATION_READ,
    "create-application": Action.ENDPOINT_CREATE,
    "list-applications": Action.ENDPOINT_LIST,
    "get-application": Action.ENDPOINT_READ,
    "update-application": Action.ENDPOINT_UPDATE,
    "delete-application": Action.ENDPOINT_DELETE,
    "list-tasks": Action.ENDPOINT_LIST,
    "get-task": Action.ENDPOINT_READ,
    "get-task-short": Action.ENDPOINT_READ,
    "acknowledge-task": Action.ENDPOINT_READ,
    "acknowledge-all-tasks": Action.ENDPOINT_LIST,
    "list-active-tasks": Action.ENDPOINT_LIST,
    "create-api-key": Action.KEY_CREATE,
    "list-api-keys": Action.KEY_LIST,
    "get-api-key": Action.KEY_READ,
    "update-api-key": Action.KEY_UPDATE,
    "delete-api-key": Action.KEY_REVOKE,
    "create-secret": Action.SECRET_CREATE,
    "list-secrets": Action.SECRET_LIST,
    "get-secret": Action.SECRET_READ,
    "replace-secret": Action.SECRET_UPDATE,
    "delete-secret": Action.SECRET_DELETE,
    "create-registry-credential": Action.CREDENTIAL_CREATE,
    "list-registry-credentials": Action.CREDENTIAL_LIST,
    "get-registry-credential": Action.CREDENTIAL_READ,
    "replace-registry-credential": Action.CREDENTIAL_UPDATE,
    "delete-registry-credential": Action.CREDENTIAL_DELETE,
}


class KeyedRoute(keyed.KeyedRoute):
    """A route of this dialect."""

    actions = ACTIONS

    async def caller(self, request: Request) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        secret = token.strip() if scheme.lower() == "apikey" else bearer_or_api_key(request)
        if not secret:
            raise Unauthenticated("Authentication credentials were not provided.")
        return services_of(request).keys.principal(secret)


@dataclass(frozen=True, slots=True)
class Context(keyed.Context):
    """One request's caller, acting for the project of the path if there is one, and what it may use."""

    async def endpoint(self, name: str) -> Endpoint:
        """The endpoint of that name, which is all the id it has here. Raises `NotFound`."""
        for view in await self.views():
            if view.endpoint.spec.name == name:
                return view.endpoint
        raise NotFound(f"no deployment {name[:64]!r}")


# Not plain functions: the framework would run them in a thread, beside the loop that changes the keys.
async def _context(request: Request) -> Context:
    return Context(*keyed.found(request))


async def _in_project(request: Request, project_id: Annotated[int, Path()]) -> Context:
    principal, services = keyed.found(request)
    return Context(services.projects.acting(principal, str(project_id)), services)


Anywhere = Annotated[Context, Depends(_context)]
Caller = Annotated[Context, Depends(_in_project)]
Limit = Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX)]
Offset = Annotated[int, Query(ge=0, le=2**53)]

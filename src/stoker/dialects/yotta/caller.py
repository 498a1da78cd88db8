"""Who calls: `X-Api-Key` with a key of Stoker's, or a bearer key for Stoker's own tools.

The table says which action of `domain.authorisation` each operation is; one without a row is an error when it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from stoker.dialects import keyed
from stoker.dialects.yotta.errors import NO_ENDPOINT, SUBMIT, Refused
from stoker.domain.authorisation import Action
from stoker.domain.endpoint import Endpoint
from stoker.domain.errors import NotFound

# What numbers of this store have at most.
DIGITS_MAX = 18

ACTIONS: Mapping[str, Action] = {
    "create-endpoint": Action.ENDPOINT_CREATE,
    "list-endpoints": Action.ENDPOINT_LIST,
    "get-endpoint": Action.ENDPOINT_READ,
    "update-endpoint": Action.ENDPOINT_UPDATE,
    "delete-endpoint": Action.ENDPOINT_DELETE,
    "start-endpoint": Action.ENDPOINT_START,
    "stop-endpoint": Action.ENDPOINT_STOP,
    "scale-workers": Action.ENDPOINT_SCALE,
    "scale-workers-by-path": Action.ENDPOINT_SCALE,
    "list-workers": Action.ENDPOINT_READ,
    "get-worker-logs": Action.ENDPOINT_READ,
    SUBMIT: Action.TASK_SUBMIT,
    "get-task": Action.TASK_READ,
    "list-tasks": Action.TASK_READ,
    "count-tasks": Action.TASK_READ,
    "list-types": Action.INSTALLATION_READ,
    "search-gpus": Action.INSTALLATION_READ,
    "create-credential": Action.CREDENTIAL_CREATE,
    "list-credentials": Action.CREDENTIAL_LIST,
    "get-credential": Action.CREDENTIAL_READ,
    "update-credential": Action.CREDENTIAL_UPDATE,
    "delete-credential": Action.CREDENTIAL_DELETE,
}


class KeyedRoute(keyed.KeyedRoute):
    """A route of this dialect."""

    actions = ACTIONS


def number_of(id: str) -> int | None:
    """The number that an id is; `None` for what is none of anything."""
    known = id.isascii() and id.isdigit() and len(id) <= DIGITS_MAX
    return int(id) if known and int(id) > 0 else None


@dataclass(frozen=True, slots=True)
class Context(keyed.Context):
    """One request's caller and what it may use."""

    async def endpoint(self, id: str, action: Action = Action.ENDPOINT_READ) -> Endpoint:
        """The endpoint of that number, which is all the id it has here. Raises `Refused`."""
        number = number_of(id)
        if number is None:
            raise Refused(NO_ENDPOINT)
        try:
            return await self.services.views.numbered(number, self.principal, action)
        except NotFound:
            raise Refused(NO_ENDPOINT) from None


# Not a plain function: the framework would run it in a thread, beside the loop that changes the keys.
async def _context(request: Request) -> Context:
    return Context(*keyed.found(request))


Caller = Annotated[Context, Depends(_context)]

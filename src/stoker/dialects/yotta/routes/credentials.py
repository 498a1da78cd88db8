"""Log-ins at registries, which images are fetched with."""

from __future__ import annotations

from fastapi import APIRouter

from stoker.dialects.yotta.caller import Caller, KeyedRoute, number_of
from stoker.dialects.yotta.errors import INVALID, NO_RECORD, Refused
from stoker.dialects.yotta.wire.base import Envelope, told
from stoker.dialects.yotta.wire.credentials import REGISTRIES, CredentialIn, CredentialOut, CredentialPatch
from stoker.domain.errors import Conflict

router = APIRouter(route_class=KeyedRoute, tags=["registry credentials"])

PREFIX = "/container-registry-auths"
_PAGE = 500


def _id(id: str) -> str:
    """Raises `Refused` for what is no number: by its name nothing is found here."""
    if number_of(id) is None:
        raise Refused(NO_RECORD, f"no registry credential {id[:64]!r}")
    return id


@router.post(PREFIX, operation_id="create-credential")
async def create_credential(body: CredentialIn, context: Caller) -> Envelope[CredentialOut]:
    """A new log-in."""
    try:
        made = await context.services.credentials.create(
            context.principal,
            name=body.name,
            registry=REGISTRIES[body.type],
            username=body.username,
            password=body.password,
        )
    except Conflict as exc:
        raise Refused(INVALID, str(exc)) from exc
    return told("Success", CredentialOut.of(made))


@router.get(PREFIX, operation_id="list-credentials")
async def list_credentials(context: Caller) -> Envelope[list[CredentialOut]]:
    """All of the project."""
    found: list[CredentialOut] = []
    after: int | None = 0
    while after is not None:
        page, after = await context.services.credentials.page(context.principal, after=after, limit=_PAGE)
        found += [CredentialOut.of(each) for each in page]
    return told("Success", found)


@router.get(PREFIX + "/{id}", operation_id="get-credential")
async def get_credential(id: str, context: Caller) -> Envelope[CredentialOut]:
    """A log-in by id, without its password."""
    return told("Success", CredentialOut.of(await context.services.credentials.get(context.principal, _id(id))))


@router.patch(PREFIX + "/{id}", operation_id="update-credential")
async def update_credential(id: str, body: CredentialPatch, context: Caller) -> Envelope[CredentialOut]:
    """Another name, user name or password; workers that start from now on use it."""
    changed = await context.services.credentials.update(
        context.principal, _id(id), name=body.name, username=body.username, password=body.password
    )
    return told("Success", CredentialOut.of(changed))


@router.delete(PREFIX + "/{id}", operation_id="delete-credential")
async def delete_credential(id: str, context: Caller) -> Envelope[bool]:
    """Forget it, unless an endpoint refers to it."""
    await context.services.credentials.delete(context.principal, _id(id))
    return told("Success", True)

"""Registry auths: log-ins that images are fetched with, one for each registry. Passwords go in and never come out."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import APIRouter

from stoker.dialects.novita.caller import Caller, Context, KeyedRoute
from stoker.dialects.novita.errors import Refused
from stoker.dialects.novita.wire.base import Empty
from stoker.dialects.novita.wire.catalogue import AuthIn, AuthOut, AuthsOut, IdIn, IdOut
from stoker.domain.authorisation import Action, admit
from stoker.domain.errors import Conflict, Forbidden, Invalid, NotFound
from stoker.domain.secrets import Credential

router = APIRouter(route_class=KeyedRoute, tags=["registry auths"])

MASK = "********"
_PAGE = 500
_NAME_CHARS_MAX = 63


async def all_of(context: Context) -> list[Credential]:
    """All log-ins of the project. Raises `Forbidden`."""
    found: list[Credential] = []
    after: int | None = 0
    while after is not None:
        page, after = await context.services.credentials.page(context.principal, after=after, limit=_PAGE)
        found += page
    return found


async def visible(context: Context) -> list[Credential]:
    """Those that the caller may see."""
    try:
        return await all_of(context)
    except Forbidden:
        return []


def _registry(name: str) -> str:
    """The host of a registry, perhaps with a port: the rest of an address says nothing more."""
    try:
        return urlsplit(name).netloc if "://" in name else name.partition("/")[0]
    except ValueError:
        return ""


@router.post("/repository/auth/save", operation_id="save-registry-auth")
async def save_registry_auth(body: AuthIn, context: Caller) -> IdOut:
    """The log-in at this registry from now on: a new one, or another in the place of the one there was."""
    credentials, caller, registry = context.services.credentials, context.principal, _registry(body.name)
    known = next((each for each in await all_of(context) if each.registry == registry), None)
    try:
        if known is None:
            name = registry.replace(":", "-")[:_NAME_CHARS_MAX]
            made = await credentials.create(
                caller, name=name, registry=registry, username=body.username, password=body.password
            )
        else:
            admit(caller, Action.CREDENTIAL_UPDATE)
            made = await credentials.update(
                caller, known.id, registry=registry, username=body.username, password=body.password
            )
    except Invalid as exc:
        places = {problem.pointer for problem in exc.problems}
        raise Invalid.at("/name", "a registry's host or URL is needed") if places & {"/registry"} else exc from exc
    return IdOut(id=made.id)


@router.get("/repository/auths", operation_id="list-registry-auths")
async def list_registry_auths(context: Caller) -> AuthsOut:
    """All of the project, without passwords."""
    return AuthsOut(
        data=[
            AuthOut(id=each.id, name=each.registry, username=each.username, password=MASK)
            for each in await all_of(context)
        ]
    )


@router.post("/repository/auth/delete", operation_id="delete-registry-auth")
async def delete_registry_auth(body: IdIn, context: Caller) -> Empty:
    """Forget it, unless an endpoint refers to it."""
    try:
        found = await context.services.credentials.get(context.principal, body.id)
        await context.services.credentials.delete(context.principal, found.id)
    except NotFound as exc:
        raise Refused("RESOURCE_NOT_FOUND", f"there is no registry auth {body.id[:64]!r}") from exc
    except Conflict as exc:
        raise Refused("IMAGE_AUTH_IN_USE", str(exc)) from exc
    return Empty()

"""Registry credentials: log-ins that images are fetched with. Passwords go in and never come out."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter
from pydantic import Field, StringConstraints
from starlette.responses import Response

from stoker.dialects.gcore.caller import PAGE_ITEMS_MAX, Caller, Context, KeyedRoute, Limit, Offset
from stoker.dialects.gcore.wire.base import LABEL, Page, Wire
from stoker.domain.errors import Invalid, NotFound, Problem
from stoker.domain.secrets import Credential

router = APIRouter(route_class=KeyedRoute, tags=["registry credentials"])

PREFIX = "/v3/inference/{project_id}/registry_credentials"
_PAGE = 500
Filled = Annotated[str, Field(min_length=1, max_length=1_024)]


class LoginIn(Wire):
    password: Filled
    registry_url: Filled
    username: Filled

    @property
    def registry(self) -> str:
        """The host, perhaps with a port: the rest of an address says nothing more."""
        try:
            return urlsplit(self.registry_url).netloc if "://" in self.registry_url else self.registry_url
        except ValueError:
            return ""


class CredentialIn(LoginIn):
    name: Annotated[str, StringConstraints(min_length=4, max_length=63, pattern=LABEL)]


class CredentialOut(Wire):
    name: str
    project_id: int
    registry_url: str
    username: str


def _shown(each: Credential) -> CredentialOut:
    return CredentialOut(name=each.name, project_id=each.project, registry_url=each.registry, username=each.username)


def _renamed(exc: Invalid) -> Invalid:
    fields = {"/registry": "/registry_url"}
    return Invalid(str(exc), problems=tuple(Problem(fields.get(p.pointer, p.pointer), p.detail) for p in exc.problems))


@router.post(PREFIX, operation_id="create-registry-credential")
async def create_registry_credential(body: CredentialIn, context: Caller) -> CredentialOut:
    """A new log-in. An address is taken for its host."""
    try:
        made = await context.services.credentials.create(
            context.principal, name=body.name, registry=body.registry, username=body.username, password=body.password
        )
    except Invalid as exc:
        raise _renamed(exc) from exc
    return _shown(made)


@router.get(PREFIX, operation_id="list-registry-credentials")
async def list_registry_credentials(
    context: Caller, limit: Limit = PAGE_ITEMS_MAX, offset: Offset = 0
) -> Page[CredentialOut]:
    """All of the project, without passwords."""
    found: list[CredentialOut] = []
    after: int | None = 0
    while after is not None:
        page, after = await context.services.credentials.page(context.principal, after=after, limit=_PAGE)
        found += [_shown(each) for each in page]
    return Page.of(found, limit=limit, offset=offset)


async def _found(context: Context, name: str) -> Credential:
    found = await context.services.credentials.get(context.principal, name)
    if found.name != name:
        raise NotFound(f"no registry credential {name[:64]!r}")
    return found


@router.get(PREFIX + "/{credential_name}", operation_id="get-registry-credential")
async def get_registry_credential(credential_name: str, context: Caller) -> CredentialOut:
    """A log-in by name, without its password."""
    return _shown(await _found(context, credential_name))


@router.put(PREFIX + "/{credential_name}", operation_id="replace-registry-credential")
async def replace_registry_credential(credential_name: str, body: LoginIn, context: Caller) -> CredentialOut:
    """Another log-in under the same name; workers that start from now on use it."""
    known = await _found(context, credential_name)
    try:
        changed = await context.services.credentials.update(
            context.principal, known.id, registry=body.registry, username=body.username, password=body.password
        )
    except Invalid as exc:
        raise _renamed(exc) from exc
    return _shown(changed)


@router.delete(PREFIX + "/{credential_name}", operation_id="delete-registry-credential", status_code=204)
async def delete_registry_credential(credential_name: str, context: Caller) -> Response:
    """Forget it, unless a deployment refers to it."""
    await context.services.credentials.delete(context.principal, (await _found(context, credential_name)).id)
    return Response(status_code=204)

"""Secrets of type `aws-iam`, which triggers on queues refer to. Values go in and never come out."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter
from pydantic import Field, StringConstraints
from starlette.responses import Response

from stoker.dialects.gcore.caller import PAGE_ITEMS_MAX, Caller, Context, KeyedRoute, Limit, Offset
from stoker.dialects.gcore.wire.base import DOTTED, Page, Wire
from stoker.domain.errors import NotFound
from stoker.domain.secrets import Secret

router = APIRouter(route_class=KeyedRoute, tags=["secrets"])

PREFIX = "/v3/inference/{project_id}/secrets"
AWS_IAM = "aws-iam"
MASK = "********"
_PAGE = 500
Filled = Annotated[str, Field(min_length=1, max_length=1_024)]


class AwsIam(Wire):
    aws_access_key_id: Filled
    aws_secret_access_key: Filled


class SecretIn(Wire):
    data: AwsIam
    type: Literal["aws-iam"]


class NamedSecretIn(SecretIn):
    name: Annotated[str, StringConstraints(min_length=4, max_length=63, pattern=DOTTED)]


class SecretOut(Wire):
    data: AwsIam
    name: str
    type: str


def _shown(secret: Secret) -> SecretOut:
    return SecretOut(data=AwsIam(aws_access_key_id=MASK, aws_secret_access_key=MASK), name=secret.name, type=AWS_IAM)


def _value(body: SecretIn) -> str:
    return msgspec.json.encode(body.data.model_dump()).decode()


@router.post(PREFIX, operation_id="create-secret")
async def create_secret(body: NamedSecretIn, context: Caller) -> SecretOut:
    """A new secret."""
    made = await context.services.secrets.create(
        context.principal, name=body.name, value=_value(body), description=AWS_IAM
    )
    return _shown(made)


@router.get(PREFIX, operation_id="list-secrets")
async def list_secrets(context: Caller, limit: Limit = PAGE_ITEMS_MAX, offset: Offset = 0) -> Page[SecretOut]:
    """All of this type in the project; others of it are Stoker's own."""
    found: list[SecretOut] = []
    after: int | None = 0
    while after is not None:
        page, after = await context.services.secrets.page(context.principal, after=after, limit=_PAGE)
        found += [_shown(each) for each in page if each.description == AWS_IAM]
    return Page.of(found, limit=limit, offset=offset)


async def _found(context: Context, name: str) -> Secret:
    found = await context.services.secrets.get(context.principal, name)
    if found.name != name or found.description != AWS_IAM:
        raise NotFound(f"no secret {name[:64]!r}")
    return found


@router.get(PREFIX + "/{secret_name}", operation_id="get-secret")
async def get_secret(secret_name: str, context: Caller) -> SecretOut:
    """A secret by name, its values masked."""
    return _shown(await _found(context, secret_name))


@router.put(PREFIX + "/{secret_name}", operation_id="replace-secret")
async def replace_secret(secret_name: str, body: SecretIn, context: Caller) -> SecretOut:
    """Other values under the same name."""
    known = await _found(context, secret_name)
    return _shown(await context.services.secrets.update(context.principal, known.id, value=_value(body)))


@router.delete(PREFIX + "/{secret_name}", operation_id="delete-secret", status_code=204)
async def delete_secret(secret_name: str, context: Caller) -> Response:
    """Forget it."""
    await context.services.secrets.delete(context.principal, (await _found(context, secret_name)).id)
    return Response(status_code=204)

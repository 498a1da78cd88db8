"""AI keys: bearer keys that call one deployment, or all of the project; and the quota, of which there is none."""

from __future__ import annotations

from typing import Annotated
from uuid import NAMESPACE_OID, uuid5

from fastapi import APIRouter
from pydantic import Field

from stoker.dialects.exoscale.caller import Caller, Context, SignedRoute, checked_id
from stoker.dialects.exoscale.routes.operations import done
from stoker.dialects.exoscale.wire.base import Text, Wire
from stoker.dialects.exoscale.wire.operations import OperationOut
from stoker.domain.access import ApiKey, KeyDraft, Scope
from stoker.domain.errors import NotFound
from stoker.domain.times import iso

router = APIRouter(route_class=SignedRoute, tags=["keys"])

PAGE = 500
PUBLIC = "public"
_NAME = r"^[A-Za-z0-9](?:[A-Za-z0-9 _'()-]*[A-Za-z0-9])?$"


class KeyIn(Wire):
    """`scope` is `public` for all deployments of the project, or the id of one."""

    name: Annotated[str, Field(min_length=1, max_length=50, pattern=_NAME)]
    scope: Text


class KeyOut(Wire):
    id: str
    org_uuid: str
    name: str
    scope: str
    created_at: str
    updated_at: str


class KeyMade(KeyOut):
    value: str


class KeysOut(Wire):
    ai_api_keys: list[KeyOut]


class QuotaOut(Wire):
    quota_uom_per_minute: int | None


def _values(key: ApiKey) -> dict[str, str]:
    created = iso(key.created_at)
    return {
        "id": key.id,
        "org_uuid": str(uuid5(NAMESPACE_OID, f"stoker project {key.project}")),
        "name": key.name,
        "scope": PUBLIC if key.endpoints is None else next(iter(key.endpoints)),
        "created_at": created,
        "updated_at": created,
    }


def _is_one(key: ApiKey) -> bool:
    """Does it do what such a key does, and nothing else? The keys that deployments have for themselves do not count."""
    few = key.endpoints is None or len(key.endpoints) == 1
    return key.scopes == frozenset({Scope.INVOKE}) and few and key.digest is not None and not key.owned


@router.get("/ai/api-key", operation_id="list-ai-api-keys")
async def list_ai_api_keys(context: Caller) -> KeysOut:
    """All keys of the project that call deployments and do nothing else, without their values."""
    found: list[ApiKey] = []
    after: int | None = 0
    while after is not None:
        page, after = await context.services.keys.page(context.principal, after=after, limit=PAGE)
        found += [key for key in page if _is_one(key)]
    return KeysOut(ai_api_keys=[KeyOut(**_values(key)) for key in found])


@router.post("/ai/api-key", operation_id="create-ai-api-key")
async def create_ai_api_key(body: KeyIn, context: Caller) -> KeyMade:
    """A key; its value is in this answer and nowhere else."""
    endpoints = None if body.scope == PUBLIC else frozenset({(await context.endpoint(body.scope)).id})
    draft = KeyDraft(name=body.name, scopes=frozenset({Scope.INVOKE}), endpoints=endpoints)
    key, secret = await context.services.keys.make(draft, project=context.principal.project, by=context.principal)
    return KeyMade(**_values(key), value=secret)


async def _key(context: Context, id: str) -> ApiKey:
    wanted = checked_id(id, "key")
    key = await context.services.keys.get(context.principal, wanted)
    if key.id != wanted or not _is_one(key) or key.revoked_at is not None:
        raise NotFound(f"no key {wanted}")
    return key


@router.get("/ai/api-key/{id}", operation_id="get-ai-api-key")
async def get_ai_api_key(id: str, context: Caller) -> KeyOut:
    """A key by id, without its value."""
    return KeyOut(**_values(await _key(context, id)))


@router.delete("/ai/api-key/{id}", operation_id="delete-ai-api-key", response_model_exclude_none=True)
async def delete_ai_api_key(id: str, context: Caller) -> OperationOut:
    """Make a key useless at once."""
    key = await _key(context, id)
    await context.services.keys.revoke(key.id, by=context.principal)
    return await done(context, "get-ai-api-key", key.id, "the key is revoked")


@router.get("/ai/quota", operation_id="get-user-org-consumption-quota")
async def get_user_org_consumption_quota(context: Caller) -> QuotaOut:
    """Nothing is rationed."""
    return QuotaOut(quota_uom_per_minute=None)

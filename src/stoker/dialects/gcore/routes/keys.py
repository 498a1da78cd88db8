"""Inference API keys: each calls the deployments that it is attached to, and does nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field, StringConstraints
from starlette.responses import Response

from stoker.dialects.gcore.caller import Caller, Context, KeyedRoute, Limit, Offset
from stoker.dialects.gcore.wire.base import DOTTED, Page, Wire, moment, seconds
from stoker.domain.access import ApiKey, KeyDraft, KeyPatch, Scope
from stoker.domain.endpoint import Endpoint, EndpointId
from stoker.domain.errors import Conflict, Forbidden, Invalid, NotFound

router = APIRouter(route_class=KeyedRoute, tags=["api keys"])

PREFIX = "/v3/inference/{project_id}/api_keys"
_PAGE = 500
# A key whose end is over when it is made is of no use from then on.
_MOMENT_S = 0.001
EXPIRES_S_MAX = 3_153_600_000.0
Description = Annotated[str, Field(max_length=300)]


class KeyIn(Wire):
    name: Annotated[str, StringConstraints(min_length=4, max_length=63, pattern=DOTTED)]
    description: Description | None = None
    expires_at: datetime | None = None


class KeyPatchIn(Wire):
    description: Description | None = None


class KeyOut(Wire):
    created_at: str
    deployment_names: list[str]
    description: str | None
    expires_at: str | None
    name: str


class KeyMade(KeyOut):
    secret: str


def _is_one(key: ApiKey) -> bool:
    """Does it call some endpoints and nothing else? Those that endpoints have for themselves do not count."""
    calls = key.scopes == frozenset({Scope.INVOKE}) and key.endpoints is not None
    return calls and key.digest is not None and key.revoked_at is None and not key.owned


async def all_of(context: Context) -> list[ApiKey]:
    """All that there are in the project."""
    found: list[ApiKey] = []
    after: int | None = 0
    while after is not None:
        page, after = await context.services.keys.page(context.principal, after=after, limit=_PAGE)
        found += [key for key in page if _is_one(key)]
    return found


async def visible(context: Context) -> list[ApiKey]:
    """The same, as far as the caller may see keys: none, for most."""
    try:
        return await all_of(context)
    except Forbidden:
        return []


async def named(context: Context, names: Iterable[str]) -> list[ApiKey]:
    """Those of these names. Raises `Invalid` for one that is not there, `Forbidden` where the caller sees none."""
    wanted = list(dict.fromkeys(names))
    known = {key.name: key for key in await all_of(context)}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise Invalid.at("/api_keys", f"no API key {missing[0]!r}")
    return [known[name] for name in wanted]


async def _reattach(context: Context, key: ApiKey, endpoints: Iterable[EndpointId]) -> None:
    patch = KeyPatch(fields=frozenset({"endpoints"}), endpoints=frozenset(endpoints))
    await context.services.keys.update(context.principal, key.id, patch)


async def attach(context: Context, endpoint: Endpoint, attached: Sequence[ApiKey]) -> None:
    """Have these keys call the deployment, and no others that do nothing else."""
    for key in await all_of(context):
        ends = key.endpoints or frozenset()
        wanted = any(key.id == each.id for each in attached)
        if wanted and endpoint.id not in ends:
            await _reattach(context, key, ends | {endpoint.id})
        elif not wanted and endpoint.id in ends:
            await _reattach(context, key, ends - {endpoint.id})


async def let_go(context: Context, endpoint: Endpoint) -> None:
    """Have no key call a deployment that goes, as far as the caller may: a key for what is gone calls nothing."""
    if await visible(context):
        await attach(context, endpoint, ())


async def _key(context: Context, name: str) -> ApiKey:
    for key in await all_of(context):
        if key.name == name:
            return key
    raise NotFound(f"no API key {name[:64]!r}")


async def _names(context: Context) -> dict[EndpointId, str]:
    return {view.endpoint.id: view.endpoint.spec.name for view in await context.views()}


def _shown(key: ApiKey, names: dict[EndpointId, str]) -> KeyOut:
    return KeyOut(
        created_at=moment(key.created_at),
        deployment_names=sorted(names[each] for each in key.endpoints or () if each in names),
        description=key.description or None,
        expires_at=None if key.expires_at is None else moment(key.expires_at),
        name=key.name,
    )


@router.post(PREFIX, operation_id="create-api-key")
async def create_api_key(body: KeyIn, context: Caller) -> KeyMade:
    """A key, attached to nothing yet. Its secret is in this answer and nowhere else."""
    if any(key.name == body.name for key in await all_of(context)):
        raise Conflict(f"there is an API key named {body.name!r} already")
    draft = KeyDraft(
        name=body.name,
        scopes=frozenset({Scope.INVOKE}),
        endpoints=frozenset(),
        expires_in_s=_left_s(body.expires_at, context.services.clock()),
        description=body.description or "",
    )
    key, secret = await context.services.keys.make(draft, project=context.principal.project, by=context.principal)
    return KeyMade(**_shown(key, {}).model_dump(), secret=secret)


def _left_s(at: datetime | None, now: float) -> float | None:
    end = seconds(at, "/expires_at")
    return None if end is None else min(max(end - now, _MOMENT_S), EXPIRES_S_MAX)


@router.get(PREFIX, operation_id="list-api-keys")
async def list_api_keys(context: Caller, limit: Limit = 100, offset: Offset = 0) -> Page[KeyOut]:
    """All keys that call deployments and do nothing else, without their secrets."""
    names = await _names(context)
    shown: Sequence[KeyOut] = [_shown(key, names) for key in await all_of(context)]
    return Page.of(shown, limit=limit, offset=offset)


@router.get(PREFIX + "/{api_key_name}", operation_id="get-api-key")
async def get_api_key(api_key_name: str, context: Caller) -> KeyOut:
    """A key by name, without its secret."""
    return _shown(await _key(context, api_key_name), await _names(context))


@router.patch(PREFIX + "/{api_key_name}", operation_id="update-api-key")
async def update_api_key(api_key_name: str, body: KeyPatchIn, context: Caller) -> KeyOut:
    """Another description, or none; left out, it stays."""
    key = await _key(context, api_key_name)
    if "description" in body.model_fields_set:
        patch = KeyPatch(fields=frozenset({"description"}), description=body.description or "")
        key = await context.services.keys.update(context.principal, key.id, patch)
    return _shown(key, await _names(context))


@router.delete(PREFIX + "/{api_key_name}", operation_id="delete-api-key", status_code=204)
async def delete_api_key(api_key_name: str, context: Caller) -> Response:
    """Make a key useless at once, unless a deployment has it."""
    key = await _key(context, api_key_name)
    attached = _shown(key, await _names(context)).deployment_names
    if attached:
        raise Conflict(f"the API key is attached to {', '.join(attached[:5])}")
    await context.services.keys.revoke(key.id, by=context.principal)
    return Response(status_code=204)

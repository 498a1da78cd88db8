"""API keys."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from starlette.responses import Response

from stoker.api.once import OnceRoute
from stoker.api.routes.context import Caller, Context, Cursor, Limit, after_of, cursor_of
from stoker.api.wire.base import Page
from stoker.api.wire.keys import KeyIn, KeyMade, KeyOut, KeyPatchIn
from stoker.domain.access import KeyDraft, KeyPatch
from stoker.domain.endpoint import EndpointId

router = APIRouter(route_class=OnceRoute, tags=["keys"])


async def _endpoints(context: Context, references: Sequence[str] | None) -> frozenset[EndpointId] | None:
    if references is None:
        return None
    return frozenset([(await context.endpoint(reference)).id for reference in references])


@router.post("/keys", status_code=201)
async def create_key(body: KeyIn, context: Caller) -> KeyMade:
    """Make a key. Its secret is in this answer and, unless it is revealable, nowhere else."""
    draft = KeyDraft(
        name=body.name,
        scopes=body.scopes,
        endpoints=await _endpoints(context, body.endpoints),
        expires_in_s=body.expires_in_s,
        limits=body.limits(),
        revealable=body.revealable,
        installation=body.installation,
        signing=body.kind == "signing",
    )
    key, secret = await context.services.keys.make(draft, project=context.principal.project, by=context.principal)
    return KeyMade(key=KeyOut.of(key), secret=secret)


@router.get("/keys")
async def list_keys(context: Caller, limit: Limit = 100, cursor: Cursor = None) -> Page[KeyOut]:
    """The project's keys that are not revoked, oldest first; a limited key sees those that reach no further."""
    keys, last = await context.services.keys.page(context.principal, after=after_of(cursor), limit=limit)
    return Page(items=[KeyOut.of(key) for key in keys], next=cursor_of(last))


@router.get("/keys/{ref}")
async def get_key(ref: str, context: Caller) -> KeyOut:
    """A key by id or number."""
    return KeyOut.of(await context.services.keys.get(context.principal, ref))


@router.get("/keys/{ref}/secret")
async def reveal_key(ref: str, context: Caller) -> KeyMade:
    """A revealable key with its secret. That it was shown is in the audit events."""
    key, secret = await context.services.keys.reveal(context.principal, ref)
    return KeyMade(key=KeyOut.of(key), secret=secret)


@router.patch("/keys/{ref}")
async def update_key(ref: str, body: KeyPatchIn, context: Caller) -> KeyOut:
    """Change name, endpoints, expiry or limits, at once and at the gateway too."""
    patch = KeyPatch(
        fields=frozenset(body.model_fields_set),
        name=body.name,
        endpoints=await _endpoints(context, body.endpoints),
        expires_in_s=body.expires_in_s,
        rate_per_s=body.rate_per_s,
        burst=body.burst,
        concurrency=body.concurrency,
    )
    return KeyOut.of(await context.services.keys.update(context.principal, ref, patch))


@router.delete("/keys/{ref}", status_code=204)
async def revoke_key(ref: str, context: Caller) -> Response:
    """Make a key useless at once, by id or number."""
    await context.services.keys.revoke(ref, by=context.principal)
    return Response(status_code=204)

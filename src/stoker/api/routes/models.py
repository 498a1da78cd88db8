"""Models: the catalogue, and what of it is on this host."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from stoker.api.once import OnceRoute
from stoker.api.routes.context import Caller, Cursor, Limit, after_of, cursor_of
from stoker.api.wire.base import Page
from stoker.api.wire.models import ModelIn, ModelOut, ModelPatchIn, PrunedOut

router = APIRouter(route_class=OnceRoute, tags=["models"])


@router.post("/models", status_code=201)
async def create_model(body: ModelIn, context: Caller) -> ModelOut:
    """Add a model to the catalogue. Endpoints name it or one of its aliases."""
    view = await context.services.models.create(
        context.principal,
        name=body.name,
        source=body.source.to_domain(),
        aliases=body.aliases,
        sha256=body.sha256,
        token_secret=body.token_secret,
        pinned=body.pinned,
        pull=body.pull,
    )
    return ModelOut.of(view)


@router.get("/models")
async def list_models(context: Caller, limit: Limit = 100, cursor: Cursor = None) -> Page[ModelOut]:
    """The models that have a name here: those of the installation, then the project's, oldest first."""
    views, last = await context.services.models.page(context.principal, after=after_of(cursor), limit=limit)
    return Page(items=[ModelOut.of(view) for view in views], next=cursor_of(last))


@router.post("/models:prune")
async def prune_models(context: Caller) -> PrunedOut:
    """Remove from the host what no active endpoint uses and nobody has pinned."""
    pruned = await context.services.models.prune(context.principal)
    return PrunedOut(models=list(pruned.models), bytes=pruned.bytes)


@router.post("/models/{ref}:pull", status_code=202)
async def pull_model(ref: str, context: Caller) -> ModelOut:
    """Bring it to this host now. The model tells how far it is."""
    return ModelOut.of(await context.services.models.pull(context.principal, ref))


@router.get("/models/{ref}")
async def get_model(ref: str, context: Caller) -> ModelOut:
    """A model by id, number, name or alias."""
    return ModelOut.of(await context.services.models.get(context.principal, ref))


@router.patch("/models/{ref}")
async def update_model(ref: str, body: ModelPatchIn, context: Caller) -> ModelOut:
    """Other aliases, pinned or not."""
    view = await context.services.models.update(context.principal, ref, aliases=body.aliases, pinned=body.pinned)
    return ModelOut.of(view)


@router.delete("/models/{ref}", status_code=204)
async def delete_model(ref: str, context: Caller) -> Response:
    """Forget it, and what is here of it; refused while an endpoint uses it."""
    await context.services.models.delete(context.principal, ref)
    return Response(status_code=204)

"""Models: list, create, get, delete; and which model of the catalogue a deployment asks for."""

from __future__ import annotations

import hashlib

from fastapi import APIRouter

from stoker.dialects.exoscale.caller import Caller, Context, SignedRoute, checked_id
from stoker.dialects.exoscale.errors import Precondition
from stoker.dialects.exoscale.routes.operations import done, record
from stoker.dialects.exoscale.wire.deployments import ModelRef
from stoker.dialects.exoscale.wire.models import ModelIn, ModelOut, ModelsOut, catalogue_name, named, shown_name
from stoker.dialects.exoscale.wire.operations import OperationOut
from stoker.domain.errors import Conflict, Invalid, NotFound, StokerError
from stoker.domain.models import Model, ModelSource, ModelView, SourceKind, WeightsState

router = APIRouter(route_class=SignedRoute, tags=["models"])

PAGE = 500
# Secrets that were made here for a model's download, and go with it.
TOKEN_PREFIX = "exoscale-model-"


async def all_models(context: Context) -> list[ModelView]:
    """The project's models. Those of the installation become so when they are first asked for."""
    found: list[ModelView] = []
    after: int | None = 0
    while after is not None:
        page, after = await context.services.models.page(context.principal, after=after, limit=PAGE)
        found += [view for view in page if view.model is not None]
    return found


@router.get("/ai/model", operation_id="list-models")
async def list_models(context: Caller) -> ModelsOut:
    """All models of the project."""
    views = await all_models(context)
    return ModelsOut(models=[ModelOut.of(view.model, view.weights) for view in views if view.model is not None])


@router.post("/ai/model", operation_id="create-model", response_model_exclude_none=True)
async def create_model(body: ModelIn, context: Caller) -> OperationOut:
    """Fetch a model from Hugging Face, or take one that this installation has by that name."""
    if any(named(view, body.name) for view in await all_models(context)):
        raise Conflict(f"there is a model {body.name!r} already")
    name = catalogue_name(body.name)
    try:
        view = await context.services.models.adopt(context.principal, body.name, as_name=name)
        if view is None:
            view = await _fetched(context, body, name)
    except Invalid as exc:
        raise Invalid.at("/name", str(exc)) from exc
    assert view.model is not None
    return await record(context, "get-model", view.model.id, {})


async def _fetched(context: Context, body: ModelIn, name: str) -> ModelView:
    services, caller = context.services, context.principal
    source = ModelSource(kind=SourceKind.HUGGINGFACE, location=body.name)
    secret = None
    if body.huggingface_token:
        secret = TOKEN_PREFIX + hashlib.sha256(body.name.encode()).hexdigest()[:24]
        await services.secrets.create(caller, name=secret, value=body.huggingface_token)
    try:
        return await services.models.create(
            caller,
            name=name,
            source=source,
            aliases=() if name == body.name else (body.name,),
            token_secret=secret,
            pull=True,
        )
    except StokerError:
        if secret is not None:
            await services.secrets.delete(caller, secret)
        raise


async def _model(context: Context, id: str) -> tuple[Model, ModelView]:
    wanted = checked_id(id, "model")
    view = await context.services.models.get(context.principal, wanted)
    if view.model is None or view.model.id != wanted:
        raise NotFound(f"no model {wanted}")
    return view.model, view


@router.get("/ai/model/{id}", operation_id="get-model")
async def get_model(id: str, context: Caller) -> ModelOut:
    """A model by id."""
    model, view = await _model(context, id)
    return ModelOut.of(model, view.weights)


@router.delete("/ai/model/{id}", operation_id="delete-model", response_model_exclude_none=True)
async def delete_model(id: str, context: Caller) -> OperationOut:
    """Forget a model and its files, unless a deployment uses it."""
    services, caller = context.services, context.principal
    model, _ = await _model(context, id)
    try:
        await services.models.delete(caller, model.id)
    except Conflict as exc:
        raise Precondition(str(exc), deployments=await _users(context, model)) from exc
    if model.token_secret is not None and model.token_secret.startswith(TOKEN_PREFIX):
        await services.secrets.delete(caller, model.token_secret)
    return await done(context, "get-model", model.id, "the model is deleted")


async def _users(context: Context, model: Model) -> list[str]:
    """Names of the deployments of this model that the caller may see."""
    views = await context.services.views.every(context.principal)
    specs = [view.endpoint.spec for view in views]
    return [spec.name for spec in specs if any(launch.model in model.names for _, launch in spec.launch_specs)]


async def model_for(context: Context, wanted: ModelRef) -> str:
    """The name by which a deployment's model is found: that of one of the project, or of the installation. Raises
    `Precondition` when there is none, or when it cannot be had.
    """
    view = await _known(context, wanted)
    if view is None:
        if wanted.id is None and wanted.name is not None and context.services.models.offers(wanted.name):
            return wanted.name
        shown = wanted.name if wanted.name is not None else wanted.id
        raise Precondition(f"there is no model {str(shown)[:200]!r}: create it first (create-model)")
    assert view.model is not None
    weights = view.weights
    if weights is not None and weights.state is WeightsState.FAILED and weights.retry_at is None:
        raise Precondition(f"the model {shown_name(view.model)!r} could not be fetched: {weights.error}")
    shown = shown_name(view.model)
    return shown if shown in view.model.names else view.model.name


async def take_in(context: Context, wanted: ModelRef, name: str) -> None:
    """Make a model of the installation one of the project, so that it has an id, unless it is one."""
    if await _known(context, wanted) is None:
        await context.services.models.adopt(context.principal, name, as_name=catalogue_name(name))


async def _known(context: Context, wanted: ModelRef) -> ModelView | None:
    views = await all_models(context)
    return next((view for view in views if view.model is not None and _meant(view.model, view, wanted)), None)


def _meant(model: Model, view: ModelView, wanted: ModelRef) -> bool:
    if wanted.id is not None and wanted.id != model.id:
        return False
    return wanted.name is None or named(view, wanted.name)

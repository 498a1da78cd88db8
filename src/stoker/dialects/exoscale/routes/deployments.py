"""Deployments: create, list, get, update, delete, scale, reveal the key, logs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from stoker.dialects.exoscale.caller import Caller, Context, SignedRoute
from stoker.dialects.exoscale.errors import Precondition
from stoker.dialects.exoscale.routes.models import all_models, model_for, take_in
from stoker.dialects.exoscale.routes.operations import SETTLE_S, begun, done
from stoker.dialects.exoscale.wire.deployments import (
    ApiKeyOut,
    DeploymentDetails,
    DeploymentIn,
    DeploymentOut,
    DeploymentPatch,
    DeploymentsOut,
    LogOut,
    LogsOut,
    ModelOf,
    ScaleIn,
    fixed,
    replicas_of,
    resized,
)
from stoker.dialects.exoscale.wire.models import named, shown_name
from stoker.dialects.exoscale.wire.operations import OperationOut
from stoker.domain.endpoint import Phase, PoolSpec
from stoker.domain.errors import Conflict, Invalid
from stoker.domain.gpus import find
from stoker.domain.hardware import HardwareRequest
from stoker.domain.operation import Operation, OperationState
from stoker.domain.views import EndpointView

router = APIRouter(route_class=SignedRoute, tags=["deployments"])

TAIL_LINES = 100
TAIL_LINES_MAX = 10_000


@router.post("/ai/deployment", operation_id="create-deployment", response_model_exclude_none=True)
async def create_deployment(body: DeploymentIn, context: Caller) -> OperationOut:
    """Deploy a model. The operation ends when all replicas are ready, or cannot become so."""
    services, caller = context.services, context.principal
    wanted = body.hardware()
    await _check_room(context, wanted, body.replicas)
    model = await model_for(context, body.model)
    try:
        # Looked at first: what is refused leaves no model behind that was only taken in for it.
        preview = await services.endpoints.preview(caller, body.to_spec(model))
        if preview.endpoint is not None:
            raise Conflict(f"the name {body.name!r} is taken")
        await take_in(context, body.model, model)
        _, operation = await services.endpoints.create(caller, body.to_spec(model))
    except Conflict as exc:
        raise Precondition(str(exc)) from exc
    except Invalid as exc:
        raise _unmet(exc) from exc
    return begun(operation)


async def _check_room(context: Context, wanted: HardwareRequest, replicas: int) -> None:
    """Refuse what all the cards of these machines together could not hold, whoever uses them at present."""
    if not wanted.gpu_count:
        return
    types = context.services.views.instance_types(HardwareRequest())
    known = {each.type.family for each in types}
    [family] = wanted.families
    if family not in known and find(family) is None:
        raise Invalid.at("/gpu-type", f"there is no family {family!r}; list-ai-instance-types has those there are")
    total = sum(
        each.type.total
        for each in types
        if (each.type.family, each.type.count, each.provider) == (family, wanted.gpu_count, PoolSpec().provider)
        and each.type.vram_gib >= (wanted.vram_gib_min or 0)
    )
    if total < replicas:
        raise Precondition(
            f"there are not enough GPUs: {replicas} times {wanted.gpu_count} of {family} were asked for, "
            f"and there is room for {total} such replicas"
        )


def _unmet(exc: Invalid) -> Exception:
    """What could be right at another time or on other machines is no mistake in the request."""
    places = {problem.pointer for problem in exc.problems}
    return Precondition(str(exc)) if places & {"/pools/0/hardware", "/launch/model"} else exc


@router.get("/ai/deployment", operation_id="list-deployments", response_model_exclude_none=True)
async def list_deployments(
    context: Caller, visibility: Annotated[Literal["private", "public"] | None, Query()] = None
) -> DeploymentsOut:
    """All deployments of the project; those that are public are the cloud's own, of which there are none."""
    if visibility == "public":
        return DeploymentsOut(deployments=[])
    views = await all_deployments(context)
    model, now = await _models(context), context.services.clock()
    return DeploymentsOut(
        deployments=[DeploymentOut.of(view, model, base=context.services.url, now=now) for view in views]
    )


async def all_deployments(context: Context) -> list[EndpointView]:
    """Every endpoint of the project that the caller may see."""
    return await context.services.views.every(context.principal)


async def _models(context: Context) -> Callable[[str], ModelOf]:
    """What a model of a spec is called here."""
    views = await all_models(context)

    def find_model(name: str) -> ModelOf:
        for view in views:
            if view.model is not None and named(view, name):
                return ModelOf(id=view.model.id, name=shown_name(view.model))
        return ModelOf(name=name)

    return find_model


@router.get("/ai/deployment/{id}", operation_id="get-deployment", response_model_exclude_none=True)
async def get_deployment(id: str, context: Caller) -> DeploymentDetails:
    """A deployment by id."""
    view = context.services.views.endpoint(await context.endpoint(id))
    return DeploymentDetails.of(view, await _models(context), base=context.services.url, now=context.services.clock())


@router.patch("/ai/deployment/{id}", operation_id="update-deployment", response_model_exclude_none=True)
async def update_deployment(id: str, context: Caller, body: DeploymentPatch | None = None) -> OperationOut:
    """Change name, engine parameters or engine version. Replicas are replaced one after the other."""
    endpoint = await context.endpoint(id)
    spec = endpoint.spec if body is None else body.applied(endpoint.spec)
    try:
        _, operation = await context.services.endpoints.update(context.principal, endpoint.id, spec)
    except Invalid as exc:
        raise _unmet(exc) from exc
    if operation is None:
        return await done(context, "get-deployment", endpoint.id, "nothing was to be changed")
    return begun(await _settled(context, operation))


@router.post("/ai/deployment/{id}/scale", operation_id="scale-deployment", response_model_exclude_none=True)
async def scale_deployment(id: str, body: ScaleIn, context: Caller) -> OperationOut:
    """Set the number of replicas. None is used at 0, and requests do not start one."""
    services, caller = context.services, context.principal
    endpoint = await context.endpoint(id)
    if body.replicas == replicas_of(endpoint, now=services.clock()):
        return await done(context, "get-deployment", endpoint.id, "it has as many replicas already")
    hardware = endpoint.spec.pools[0].hardware
    if len(endpoint.spec.pools) == 1 and len(hardware.families) == 1:
        await _check_room(context, hardware, body.replicas)
    if not fixed(endpoint.spec):
        # One that was made elsewhere: its own bounds hold again when the number is given back there.
        _, operation = await services.endpoints.scale(caller, endpoint.id, body.replicas)
        return begun(await _settled(context, operation))
    _, changed = await services.endpoints.update(caller, endpoint.id, resized(endpoint.spec, body.replicas))
    if endpoint.phase is Phase.STOPPED:
        _, changed = await services.endpoints.start(caller, endpoint.id)
    if changed is None:
        return await done(context, "get-deployment", endpoint.id, "it has as many replicas already")
    return begun(await _settled(context, changed))


async def _settled(context: Context, operation: Operation) -> Operation:
    """The operation a moment later, in case that is all it takes."""
    if operation.state is not OperationState.PENDING:
        return operation
    return await context.services.views.operation(operation.id, context.principal, wait_s=SETTLE_S)


@router.delete("/ai/deployment/{id}", operation_id="delete-deployment", response_model_exclude_none=True)
async def delete_deployment(id: str, context: Caller) -> OperationOut:
    """Let its requests finish, then forget it and its key."""
    endpoint = await context.endpoint(id)
    _, operation = await context.services.endpoints.delete(context.principal, endpoint.id)
    await context.services.keys.disown(endpoint)
    return begun(await _settled(context, operation))


@router.get("/ai/deployment/{id}/api-key", operation_id="reveal-deployment-api-key")
async def reveal_deployment_api_key(id: str, context: Caller) -> ApiKeyOut:
    """The key that calls this deployment, as often as it is asked for."""
    endpoint = await context.endpoint(id)
    if endpoint.phase is Phase.DELETING:
        raise Conflict("the deployment is being deleted")
    _, secret = await context.services.keys.own(context.principal, endpoint)
    return ApiKeyOut(api_key=secret)


@router.get("/ai/deployment/{id}/logs", operation_id="get-deployment-logs")
async def get_deployment_logs(
    id: str,
    context: Caller,
    tail: Annotated[int, Query(ge=0, le=TAIL_LINES_MAX)] = TAIL_LINES,
    stream: Annotated[bool | None, Query(description="Taken, and changes nothing: a JSON object cannot go on.")] = None,
) -> LogsOut:
    """The last lines of all replicas, oldest first."""
    endpoint = await context.endpoint(id)
    async with aclosing(context.services.logs.of_endpoint(endpoint.id, tail=tail, follow=False)) as entries:
        return LogsOut(logs=[LogOut.of(entry) async for entry in entries])

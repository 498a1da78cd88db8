"""Operations: those of deployments are Stoker's own; what happens to models and keys is told from how these stand."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from uuid import uuid4

import msgspec
from fastapi import APIRouter

from stoker.dialects.exoscale.caller import Caller, Context, SignedRoute, checked_id
from stoker.dialects.exoscale.wire.operations import OperationOut, Reason, Reference
from stoker.domain.errors import NotFound
from stoker.domain.models import Weights, WeightsState
from stoker.domain.operation import Cause, Operation, OperationId, OperationState

router = APIRouter(route_class=SignedRoute, tags=["operations"])

# Clients ask at once and then every three seconds: an answer that waits a little spares most of them the second time.
WAIT_S = 2.0
# A change that needs no worker is done by the next pass: `exo` asks again only after three seconds.
SETTLE_S = 0.3
LOOK_S = 0.05
KEPT = "exoscale operation"
_REASONS: dict[Cause, Reason] = {
    Cause.OVERTAKEN: "conflict",
    Cause.ENDED: "interrupted",
    Cause.START_FAILED: "fault",
    Cause.NO_MODEL: "unavailable",
    Cause.NO_VOLUME: "unavailable",
    Cause.NO_ROOM: "busy",
    Cause.SOME: "partial",
    Cause.SLOW: "unavailable",
}
_STATUS = re.compile(r" answers (\d{3})\b")


@router.get("/operation/{id}", operation_id="get-operation", response_model_exclude_none=True)
async def get_operation(id: str, context: Caller) -> OperationOut:
    """How a change stands; one that is pending is answered when it has ended, but after two seconds at the latest."""
    wanted = checked_id(id, "operation")
    kept = await context.services.once.kept(context.principal.project, KEPT, wanted)
    if kept is not None:
        return await _waited(context, wanted, msgspec.json.decode(kept), WAIT_S)
    try:
        found = await context.services.views.operation(OperationId(wanted), context.principal, wait_s=WAIT_S)
    except NotFound:
        raise NotFound(f"no operation {wanted}") from None
    return shown(found)


def shown(operation: Operation) -> OperationOut:
    """An operation of a deployment."""
    reason: Reason | None = None
    if operation.state in (OperationState.FAILURE, OperationState.TIMEOUT):
        reason = "unknown" if operation.cause is None else _REASONS[operation.cause]
        if operation.cause is Cause.NO_MODEL:
            reason = reason_of(operation.message)
    return OperationOut(
        id=operation.id,
        state=operation.state.value,
        reason=reason,
        message=operation.message or None,
        reference=Reference.to("get-deployment", operation.endpoint),
    )


def begun(operation: Operation) -> OperationOut:
    """The same as the answer to a change: one that has failed already is told to those who ask again, since clients
    take any other state than pending for the end of it, and for a good one.
    """
    if operation.state in (OperationState.FAILURE, OperationState.TIMEOUT):
        return _still(shown(operation))
    return shown(operation)


async def done(context: Context, command: str, id: str, message: str) -> OperationOut:
    """The operation of a change that is made already, kept for those who ask for it."""
    return await record(context, command, id, {"message": message})


async def record(context: Context, command: str, id: str, what: dict[str, str]) -> OperationOut:
    """A new operation about something else than a deployment, and how it stands."""
    operation = str(uuid4())
    about = {"command": command, "id": id, **what}
    await context.services.once.keep(context.principal.project, KEPT, operation, msgspec.json.encode(about).decode())
    return await _waited(context, operation, about, SETTLE_S)


async def _waited(context: Context, operation: str, about: dict[str, Any], wait_s: float) -> OperationOut:
    """How it stands when it has ended, or after so long."""
    until = context.services.clock() + wait_s
    while True:
        found = await _kept(context, operation, about)
        if found.state != "pending" or context.services.clock() >= until:
            # As an answer to a change, a failure would be taken for its good end.
            return found if wait_s > SETTLE_S or found.state == "success" else _still(found)
        await asyncio.sleep(LOOK_S)


def _still(found: OperationOut) -> OperationOut:
    return OperationOut(id=found.id, state="pending", reference=found.reference)


async def _kept(context: Context, operation: str, about: dict[str, Any]) -> OperationOut:
    reference = Reference.to(about["command"], about["id"])
    if "message" in about:
        return OperationOut(id=operation, state="success", message=about["message"], reference=reference)
    try:
        weights = (await context.services.models.get(context.principal, about["id"])).weights
    except NotFound:
        return OperationOut(
            id=operation,
            state="failure",
            reason="interrupted",
            message="the model was deleted",
            reference=reference,
        )
    return _downloading(operation, weights, reference)


def _downloading(operation: str, weights: Weights | None, reference: Reference) -> OperationOut:
    if weights is not None and weights.state is WeightsState.READY:
        return OperationOut(id=operation, state="success", message="the model is ready", reference=reference)
    if weights is not None and weights.state is WeightsState.FAILED and weights.retry_at is None:
        return OperationOut(
            id=operation,
            state="failure",
            reason=reason_of(weights.error),
            message=weights.error,
            reference=reference,
        )
    return OperationOut(id=operation, state="pending", reference=reference)


def reason_of(error: str) -> Reason:
    """Why a model could not be had, from what its download says."""
    status = _STATUS.search(error)
    if status is None:
        if " matches " in error or "SHA-256" in error:
            return "incorrect"
        return "unsupported" if "no GGUF file" in error else "unavailable"
    match int(status[1]):
        case 401 | 403:
            return "forbidden"
        case 404 | 410:
            return "not-found"
        case 429:
            return "busy"
    return "unavailable"

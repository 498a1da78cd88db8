"""What to call the condition of an endpoint, and when an operation on it is done. Used by control and every face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stoker.domain.endpoint import Endpoint, Phase
from stoker.domain.models import Hold
from stoker.domain.operation import Cause, Operation, OperationKind, OperationState
from stoker.domain.views import Condition, EndpointState
from stoker.domain.worker import WANTED, Worker, WorkerState
from stoker.policy.backoff import out_of_reach, standing_of


def condition_of(endpoint: Endpoint, workers: Sequence[Worker], *, hold: Hold | None = None) -> Condition:
    """The condition of an endpoint whose workers that are not gone are `workers`; `hold` is why none can start now."""
    if endpoint.phase is Phase.DELETING:
        return Condition(EndpointState.DELETING)
    live = [w for w in workers if not w.gone]
    if endpoint.phase is Phase.STOPPED:
        return Condition(EndpointState.STOPPED, f"{len(live)} workers are still draining" if live else "")
    wanted = [w for w in live if w.state in WANTED]
    current = [w for w in wanted if endpoint.runs(w.pool, w.revision)]
    ready = [w for w in current if w.state is WorkerState.READY and not w.unready]
    unready = next((f"worker {w.number} is not ready: {w.unready}" for w in current if w.unready), "")
    old_ready = [w for w in wanted if not endpoint.runs(w.pool, w.revision) and w.state is WorkerState.READY]
    waits = (WorkerState.PENDING, WorkerState.STARTING)
    blocked = next((w.reason for w in current if w.state in waits and w.reason), "")
    if hold is not None:
        blocked = hold.reason
    if hold is not None and hold.failed and not ready:
        return Condition(EndpointState.FAILING, blocked)
    starts = standing_of(endpoint)
    if not ready and starts.failing:
        state = EndpointState.FAILING if starts.given_up else EndpointState.STARTING
        return Condition(state, f"{starts.count} failed starts; last: {starts.reason}")
    if not (blocked or unready) and starts.reason:
        # Some pool does not start, which the others make up for.
        blocked = f"starts fail: {starts.reason}"
    if old_ready:
        return Condition(EndpointState.UPDATING, blocked)
    if ready:
        return Condition(EndpointState.READY, blocked or unready)
    if endpoint.desired > 0 or any(w.state is not WorkerState.COLD for w in current):
        return Condition(EndpointState.STARTING, blocked or unready)
    return Condition(EndpointState.IDLE, "" if hold is None else hold.reason)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an operation stands: its state, a sentence, and why it is not a success."""

    state: OperationState
    message: str = ""
    cause: Cause | None = None


def _failure(cause: Cause, message: str) -> Outcome:
    return Outcome(OperationState.FAILURE, message, cause)


def outcome_of(
    operation: Operation, endpoint: Endpoint, workers: Sequence[Worker], *, now: float, hold: Hold | None = None
) -> Outcome:
    """How a pending operation stands now.

    An operation that wants workers succeeds when that many that run what they should are ready and no others are left;
    it fails when that many are no longer wanted or starts of its revision keep failing, and times out at its deadline.
    """
    live = [w for w in workers if not w.gone]
    ready: list[Worker] = []
    if operation.kind in (OperationKind.STOP, OperationKind.DELETE):
        if not live:
            return Outcome(OperationState.SUCCESS, "no worker is left")
    elif operation.kind is OperationKind.UPDATE and endpoint.phase is Phase.STOPPED:
        return Outcome(OperationState.SUCCESS, "taken over; the endpoint is stopped")
    elif endpoint.phase is not Phase.ACTIVE:
        return _failure(Cause.ENDED, "overtaken by a later change")
    elif operation.revision < endpoint.launched:
        return _failure(Cause.OVERTAKEN, "overtaken by a later change")
    else:
        wanted = operation.workers if operation.workers is not None else 0
        ready = [w for w in live if endpoint.runs(w.pool, w.revision) and w.state is WorkerState.READY]
        old = [w for w in live if not endpoint.runs(w.pool, w.revision)]
        exact = operation.kind is OperationKind.SCALE and operation.workers is not None
        if wanted > endpoint.desired or (exact and wanted < endpoint.desired):
            return _failure(Cause.OVERTAKEN, f"overtaken by a later change: {endpoint.desired} workers are wanted now")
        excess = sum(1 for w in live if w.state is not WorkerState.COLD) - wanted if exact else 0
        if len(ready) >= wanted and not old and excess <= 0:
            return Outcome(OperationState.SUCCESS, f"{len(ready)} workers are ready" if wanted else "done")
        if out_of_reach(endpoint, wanted):
            return _failure(Cause.START_FAILED, f"the worker does not start: {standing_of(endpoint).reason}")
        if hold is not None and hold.failed:
            return _failure(_cause_of(hold), f"no worker can start: {hold.reason}")
    if now >= operation.deadline_at:
        why = hold.reason if hold is not None else next((w.reason for w in live if _prepares(w)), "")
        message = f"not done in time: {why}" if why else "not done in time"
        return Outcome(OperationState.TIMEOUT, message, _too_late(live, ready, hold))
    return Outcome(OperationState.PENDING)


def _prepares(worker: Worker) -> bool:
    return worker.state is WorkerState.STARTING and bool(worker.reason)


def _cause_of(hold: Hold) -> Cause:
    return Cause.NO_VOLUME if hold.volume else Cause.NO_MODEL


def _too_late(live: Sequence[Worker], ready: Sequence[Worker], hold: Hold | None) -> Cause:
    if ready:
        return Cause.SOME
    if hold is not None:
        return _cause_of(hold)
    return Cause.NO_ROOM if any(w.state is WorkerState.PENDING and w.reason for w in live) else Cause.SLOW

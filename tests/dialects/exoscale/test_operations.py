"""Why operations did not succeed, in the words that clients know: each of them, and each told from the others."""

from __future__ import annotations

from typing import get_args

import pytest

from stoker.dialects.exoscale.routes.operations import begun, reason_of, shown
from stoker.dialects.exoscale.wire.operations import Reason
from stoker.domain.endpoint import EndpointId
from stoker.domain.operation import Cause, Operation, OperationId, OperationKind, OperationState

BY_CAUSE: dict[Cause | None, Reason] = {
    Cause.OVERTAKEN: "conflict",
    Cause.ENDED: "interrupted",
    Cause.START_FAILED: "fault",
    Cause.NO_VOLUME: "unavailable",
    Cause.NO_ROOM: "busy",
    Cause.SOME: "partial",
    Cause.SLOW: "unavailable",
    None: "unknown",
}
BY_ERROR: dict[str, Reason] = {
    "https://hub answers 401: it needs a token": "forbidden",
    "https://hub answers 403": "forbidden",
    "https://hub answers 404: check the name": "not-found",
    "https://hub answers 410": "not-found",
    "https://hub answers 429": "busy",
    "https://hub answers 503": "unavailable",
    "no file of owner/x matches '*.gguf'": "incorrect",
    "the file's SHA-256 is another": "incorrect",
    "there is no GGUF file in it, and no vLLM here": "unsupported",
    "the disk is full": "unavailable",
}


def operation(state: OperationState, cause: Cause | None, message: str = "why") -> Operation:
    return Operation(
        id=OperationId("o"),
        number=1,
        kind=OperationKind.CREATE,
        endpoint=EndpointId("e"),
        state=state,
        created_at=0.0,
        deadline_at=1.0,
        revision=1,
        workers=1,
        message=message,
        cause=cause,
    )


@pytest.mark.parametrize("state", [OperationState.FAILURE, OperationState.TIMEOUT])
@pytest.mark.parametrize(("cause", "reason"), BY_CAUSE.items())
def test_what_did_not_succeed_says_why(state: OperationState, cause: Cause | None, reason: Reason) -> None:
    found = shown(operation(state, cause))
    assert (found.state, found.reason, found.message) == (state.value, reason, "why")
    # The answer to the change itself: clients would take the failure for a good end of it.
    assert (begun(operation(state, cause)).state, begun(operation(state, cause)).reason) == ("pending", None)


@pytest.mark.parametrize(("error", "reason"), BY_ERROR.items())
def test_a_model_that_could_not_be_had_says_what_its_hub_said(error: str, reason: Reason) -> None:
    assert reason_of(error) == reason
    assert shown(operation(OperationState.FAILURE, Cause.NO_MODEL, error)).reason == reason


def test_every_word_and_every_cause_has_its_other_side() -> None:
    assert {*BY_CAUSE.values(), *BY_ERROR.values()} == set(get_args(Reason))
    assert {*BY_CAUSE, Cause.NO_MODEL} == {*Cause, None}


@pytest.mark.parametrize("state", [OperationState.PENDING, OperationState.SUCCESS])
def test_what_goes_on_or_went_well_has_no_reason(state: OperationState) -> None:
    assert (shown(operation(state, None)).reason, begun(operation(state, None)).state) == (None, state.value)

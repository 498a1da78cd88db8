"""What an endpoint's condition is called, and when operations on it are done."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import endpoint, worker
from stoker.domain.endpoint import Endpoint, EndpointId, Failures, Phase
from stoker.domain.models import Hold
from stoker.domain.operation import Cause, Operation, OperationId, OperationKind, OperationState
from stoker.domain.views import EndpointState
from stoker.domain.worker import Worker, WorkerState
from stoker.policy.backoff import FAILURES_BEFORE_REFUSAL
from stoker.policy.state import condition_of, outcome_of

S, E, K, R = WorkerState, EndpointState, OperationKind, OperationState
OLD = worker(2, S.READY, revision=0)
FAILING = Failures(count=FAILURES_BEFORE_REFUSAL, last_at=1.0, last_reason="exit 1")


@pytest.mark.parametrize(
    ("which", "workers", "state"),
    [
        (endpoint(), [], E.IDLE),
        (endpoint(), [worker(1, S.COLD)], E.IDLE),
        (endpoint(desired=1), [], E.STARTING),
        (endpoint(desired=1), [worker(1, S.STARTING)], E.STARTING),
        (endpoint(desired=1), [worker(1, S.READY)], E.READY),
        (endpoint(desired=1), [worker(1, S.READY, unready="HTTP 500")], E.STARTING),
        (endpoint(desired=1, revision=2), [worker(1, S.READY), worker(2, S.READY, revision=2)], E.UPDATING),
        (endpoint(desired=1, failures=FAILING), [], E.FAILING),
        (endpoint(desired=1, failures=replace(FAILING, count=1)), [], E.STARTING),
        (endpoint(desired=2, failures=FAILING), [worker(1, S.READY)], E.READY),
        (endpoint(phase=Phase.STOPPED), [worker(1, S.DRAINING)], E.STOPPED),
        (endpoint(phase=Phase.DELETING), [worker(1, S.READY)], E.DELETING),
    ],
)
def test_a_condition_has_one_name(which: Endpoint, workers: list[Worker], state: EndpointState) -> None:
    assert condition_of(which, workers).state is state


def test_what_holds_it_up_is_said() -> None:
    blocked = worker(1, S.PENDING, reason="needs 1 card, 0 free")
    assert condition_of(endpoint(desired=1), [blocked]).reason == "needs 1 card, 0 free"
    starting = worker(1, S.STARTING, reason="downloading model 43 %")
    assert condition_of(endpoint(desired=1), [starting]).reason == "downloading model 43 %"
    late = outcome_of(operation(K.CREATE, workers=1), endpoint(desired=1), [starting], now=10**9)
    assert late.message == "not done in time: downloading model 43 %"
    fetching = Hold(reason="fetching m: 3 of 5 GiB")
    assert condition_of(endpoint(desired=1), [], hold=fetching).reason == fetching.reason
    broken = Hold(reason="no such model", failed=True)
    assert condition_of(endpoint(), [], hold=broken).state is E.FAILING


def operation(kind: OperationKind, *, workers: int | None = None, revision: int = 1) -> Operation:
    return Operation(
        id=OperationId("o"),
        number=1,
        kind=kind,
        endpoint=EndpointId("e"),
        state=R.PENDING,
        created_at=0.0,
        deadline_at=100.0,
        revision=revision,
        workers=workers,
    )


@pytest.mark.parametrize(
    ("asked", "which", "workers", "state"),
    [
        (operation(K.CREATE, workers=0), endpoint(), [], R.SUCCESS),
        (operation(K.CREATE, workers=1), endpoint(desired=1), [worker(1, S.STARTING)], R.PENDING),
        (operation(K.CREATE, workers=1), endpoint(desired=1), [worker(1, S.READY)], R.SUCCESS),
        (operation(K.CREATE, workers=1), endpoint(desired=1, failures=FAILING), [], R.FAILURE),
        (
            operation(K.UPDATE, workers=1),
            endpoint(desired=1),
            [worker(1, S.READY), worker(2, S.READY, revision=0)],
            R.PENDING,
        ),
        (operation(K.UPDATE, workers=1), endpoint(desired=1, revision=2), [worker(1, S.READY)], R.FAILURE),
        (operation(K.UPDATE), endpoint(phase=Phase.STOPPED), [], R.SUCCESS),
        (operation(K.SCALE, workers=1), endpoint(desired=1), [worker(1, S.READY), worker(2, S.DRAINING)], R.PENDING),
        (operation(K.SCALE, workers=1), endpoint(desired=2), [worker(1, S.READY)], R.FAILURE),
        (operation(K.STOP), endpoint(phase=Phase.STOPPED), [worker(1, S.DRAINING)], R.PENDING),
        (operation(K.STOP), endpoint(phase=Phase.STOPPED), [], R.SUCCESS),
        (operation(K.DELETE), endpoint(phase=Phase.DELETING), [worker(1, S.STOPPED)], R.SUCCESS),
        (operation(K.START, workers=1), endpoint(phase=Phase.STOPPED), [], R.FAILURE),
    ],
)
def test_an_operation_is_done_when_what_it_asked_for_is_so(
    asked: Operation, which: Endpoint, workers: list[Worker], state: OperationState
) -> None:
    assert outcome_of(asked, which, workers, now=1.0).state is state


crowds = st.lists(
    st.builds(worker, st.integers(1, 9), st.sampled_from(list(S)), revision=st.integers(1, 2)), max_size=5
)


@given(
    st.sampled_from(list(K)),
    st.none() | st.integers(0, 3),
    st.integers(1, 2),
    st.sampled_from(list(Phase)),
    st.integers(0, 3),
    crowds,
)
def test_every_operation_ends_by_its_deadline_in_one_way_that_is_said(
    kind: OperationKind, workers: int | None, revision: int, phase: Phase, desired: int, crowd: list[Worker]
) -> None:
    which = endpoint(desired=desired, revision=2, phase=phase)
    asked = operation(kind, workers=workers, revision=revision)
    early, late = (outcome_of(asked, which, crowd, now=now) for now in (1.0, 100.0))
    assert late.state is not R.PENDING
    assert late.message
    assert (late.cause is None) == (late.state is R.SUCCESS), "why it is no success"
    assert early.state is late.state or (early.state, late.state) == (R.PENDING, R.TIMEOUT)
    assert condition_of(which, crowd).state in E


@pytest.mark.parametrize(
    ("asked", "which", "crowd", "hold", "cause"),
    [
        (operation(K.UPDATE, workers=1), endpoint(desired=1, revision=2), [], None, Cause.OVERTAKEN),
        (operation(K.CREATE, workers=2), endpoint(desired=1), [], None, Cause.OVERTAKEN),
        (operation(K.START, workers=1), endpoint(phase=Phase.STOPPED), [], None, Cause.ENDED),
        (operation(K.START, workers=1), endpoint(phase=Phase.DELETING), [], None, Cause.ENDED),
        (operation(K.START, workers=1), endpoint(desired=1), [], Hold("no", failed=True), Cause.NO_MODEL),
        (operation(K.START, workers=1), endpoint(desired=1), [], Hold("no", failed=True, volume=True), Cause.NO_VOLUME),
        (operation(K.START, workers=2), endpoint(desired=2), [worker(1, S.READY)], None, Cause.SOME),
        (operation(K.START, workers=1), endpoint(desired=1), [worker(1, S.STARTING)], None, Cause.SLOW),
        (
            operation(K.START, workers=1),
            endpoint(desired=1),
            [worker(1, S.PENDING)],
            Hold("soon"),
            Cause.NO_MODEL,
        ),
        (
            operation(K.START, workers=1),
            endpoint(desired=1),
            [replace(worker(1, S.PENDING), reason="no room")],
            None,
            Cause.NO_ROOM,
        ),
        (
            operation(K.START, workers=1),
            endpoint(desired=1, failures=FAILING),
            [],
            None,
            Cause.START_FAILED,
        ),
    ],
)
def test_what_did_not_come_to_be_says_why(
    asked: Operation, which: Endpoint, crowd: list[Worker], hold: Hold | None, cause: Cause
) -> None:
    assert outcome_of(asked, which, crowd, now=100.0, hold=hold).cause is cause

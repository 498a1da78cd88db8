"""What observations make of a worker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builders import worker
from stoker.domain.endpoint import Failures
from stoker.domain.worker import TRANSITIONS, Exit, Observed, Worker, WorkerId, WorkerState
from stoker.policy.lifecycle import Sight, advance, count_failures, counts_from, failed_start

S = WorkerState
NOW = 1_000.0
W1 = WorkerId("w1")


def seen(begun_at: float, *, running: bool | None, code: int | None = None) -> Sight:
    if running is None:
        return Sight(begun_at, None)
    exit_ = None if running else Exit(code=code, at=begun_at, reason=f"exited with code {code}")
    return Sight(begun_at, Observed(id=W1, running=running, exit=exit_))


def after(
    before: Worker, sight: Sight | None, *, ready: bool = False, settled: bool = True, now: float = NOW
) -> Worker:
    return advance(before, sight, start_timeout_s=60, ready=ready, settled=settled, now=now)


def test_a_good_probe_makes_a_starting_worker_ready() -> None:
    started = worker(1, S.STARTING, started_at=NOW - 5, acknowledged_at=NOW - 4)
    result = after(started, seen(NOW, running=True), ready=True)
    assert (result.state, result.ready_at) == (S.READY, NOW)


def test_an_exit_is_a_failure_unless_the_end_was_asked_for() -> None:
    started = worker(1, S.STARTING, started_at=NOW, acknowledged_at=NOW)
    failed = after(started, seen(NOW, running=False, code=3))
    assert (failed.state, failed.exit_code, failed.reason) == (S.FAILED, 3, "exited with code 3")
    stopped = after(worker(1, S.STOPPING, acknowledged_at=NOW), seen(NOW, running=False, code=-15))
    assert stopped.state is S.STOPPED


def test_absence_proves_nothing_in_a_list_begun_before_the_start_was_acknowledged() -> None:
    started = worker(1, S.STARTING, started_at=NOW - 5, acknowledged_at=NOW - 1)
    assert after(started, seen(NOW - 2, running=None)) is started
    assert after(started, seen(NOW - 0.5, running=None)).state is S.FAILED


def test_absence_proves_nothing_while_a_start_is_under_way() -> None:
    unacknowledged = worker(1, S.STARTING, started_at=NOW - 5)
    assert after(unacknowledged, seen(NOW, running=None)) is unacknowledged
    stopping = worker(1, S.STOPPING, acknowledged_at=NOW - 5)
    assert after(stopping, seen(NOW, running=None), settled=False) is stopping
    assert after(stopping, seen(NOW, running=None), settled=True).state is S.STOPPED


@given(
    started=st.floats(0, NOW),
    began=st.none() | st.floats(0, 2 * NOW),
    preparing=st.sampled_from(["", "downloading model 43 %"]),
    limit_s=st.floats(1, NOW),
)
def test_what_is_fetched_for_a_worker_takes_none_of_its_time_to_become_ready(
    started: float, began: float | None, preparing: str, limit_s: float
) -> None:
    before = worker(1, S.STARTING, started_at=started, acknowledged_at=started)
    sight = Sight(NOW, Observed(id=W1, running=True, preparing=preparing, began_at=None if preparing else began))
    result = advance(before, sight, start_timeout_s=limit_s, ready=False, settled=True, now=NOW)
    if preparing:
        assert (result.state, result.reason) == (S.STARTING, preparing)
        return
    # A provider's clock that is ahead gives more time, never less than there is.
    since = max(started, min(began or 0.0, NOW))
    assert counts_from(before, sight, now=NOW) == since
    assert (result.state is S.STOPPING) is (NOW - since >= limit_s)


def test_how_far_its_model_is_is_said_of_a_starting_worker_until_it_begins() -> None:
    started = worker(1, S.STARTING, started_at=NOW - 5, acknowledged_at=NOW - 4)
    fetching = Sight(NOW, Observed(id=W1, running=True, preparing="downloading model 43 %"))
    said = after(started, fetching)
    assert said.reason == "downloading model 43 %"
    assert after(said, fetching) is said
    assert after(said, seen(NOW, running=True)).reason == ""


def test_no_list_at_all_changes_nothing() -> None:
    ready = worker(1, S.READY, acknowledged_at=1.0, ready_at=2.0)
    assert after(ready, None) is ready


def test_a_worker_that_is_not_ready_in_time_is_stopped() -> None:
    slow = worker(1, S.STARTING, started_at=NOW - 60, acknowledged_at=NOW - 59)
    result = after(slow, seen(NOW, running=True))
    assert result.state is S.STOPPING
    assert "60 s" in result.reason
    assert failed_start(slow, result)


def test_a_crash_soon_after_ready_counts_as_a_failed_start_and_a_later_one_does_not() -> None:
    for age_s, counts in ((3.0, True), (30.0, False)):
        ready = worker(1, S.READY, acknowledged_at=1.0, ready_at=NOW - age_s)
        result = after(ready, seen(NOW, running=False, code=1))
        assert failed_start(ready, result) is counts


def test_failures_of_one_pass_count_once_and_a_stable_worker_ends_them() -> None:
    failures = count_failures(Failures(), reasons=["a", "b"], stable=False, now=NOW)
    assert (failures.count, failures.last_reason) == (1, "b")
    assert count_failures(failures, reasons=[], stable=False, now=NOW) is failures
    assert count_failures(failures, reasons=[], stable=True, now=NOW).count == 0


@given(
    state=st.sampled_from(WorkerState),
    acknowledged=st.one_of(st.none(), st.floats(0, 2_000)),
    begun=st.floats(0, 2_000),
    running=st.sampled_from([None, True, False]),
    looked=st.booleans(),
    ready=st.booleans(),
    settled=st.booleans(),
)
def test_only_legal_transitions_are_made(
    state: WorkerState,
    acknowledged: float | None,
    begun: float,
    running: bool | None,
    looked: bool,
    ready: bool,
    settled: bool,
) -> None:
    before = worker(1, state, acknowledged_at=acknowledged, started_at=0.0, ready_at=1.0)
    sight = seen(begun, running=running, code=0) if looked else None
    result = after(before, sight, ready=ready, settled=settled, now=2_000.0)
    assert result.state is before.state or result.state in TRANSITIONS[before.state]

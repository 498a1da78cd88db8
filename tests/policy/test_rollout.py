"""The plan of a pass: what is started, drained and stopped, and that repeated passes come to rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import endpoint, worker
from stoker.domain.endpoint import Failures, Phase
from stoker.domain.worker import WANTED, Worker, WorkerState
from stoker.policy.rollout import Drain, Start, Stop, plan, retry_at

S = WorkerState
NOW = 1_000.0


def test_missing_workers_are_started_together() -> None:
    assert plan(endpoint(desired=3), [], loads={}, drained=(), now=NOW) == (Start(3),)


def test_starting_workers_count_as_capacity() -> None:
    workers = [worker(1, S.PENDING), worker(2, S.STARTING), worker(3, S.READY)]
    assert plan(endpoint(desired=3), workers, loads={}, drained=(), now=NOW) == ()


def test_victims_are_starting_ones_then_idle_ones_then_the_least_loaded() -> None:
    workers = [worker(1, S.READY), worker(2, S.READY), worker(3, S.READY), worker(4, S.STARTING)]
    loads = {workers[0].id: 3, workers[1].id: 0, workers[2].id: 1}

    def victims(desired: int) -> list[str]:
        actions = plan(endpoint(desired=desired), workers, loads=loads, drained=(), now=NOW)
        return [action.worker for action in actions if not isinstance(action, Start)]

    assert victims(3) == ["w4"]
    assert victims(2) == ["w4", "w2"]
    assert victims(1) == ["w4", "w2", "w3"]


def test_a_worker_that_took_requests_is_drained_and_one_that_did_not_is_stopped() -> None:
    workers = [worker(1, S.READY), worker(2, S.STARTING), worker(3, S.PENDING)]
    actions = plan(endpoint(desired=0), workers, loads={}, drained=(), now=NOW)
    assert {type(a): a.worker for a in actions if isinstance(a, Drain)} == {Drain: "w1"}
    assert sorted(a.worker for a in actions if isinstance(a, Stop)) == ["w2", "w3"]


@pytest.mark.parametrize(
    ("drained", "deadline", "stopped"),
    [
        pytest.param(False, NOW + 1, False, id="busy within its time goes on"),
        pytest.param(True, NOW + 1, True, id="confirmed empty is stopped"),
        pytest.param(False, NOW, True, id="out of time is stopped"),
    ],
)
def test_draining_ends_by_confirmation_or_by_time(drained: bool, deadline: float, stopped: bool) -> None:
    draining = worker(1, S.DRAINING, drain_deadline=deadline)
    actions = plan(endpoint(), [draining], loads={}, drained=[draining.id] if drained else [], now=NOW)
    assert any(isinstance(action, Stop) for action in actions) is stopped


def test_an_update_starts_up_to_the_surge_and_keeps_old_workers_until_new_ones_are_ready() -> None:
    old = [worker(1, S.READY), worker(2, S.READY)]
    updated = endpoint(desired=2, revision=2, surge=1)
    assert plan(updated, old, loads={}, drained=(), now=NOW) == (Start(1),)
    starting = [*old, worker(3, S.STARTING, revision=2)]
    assert plan(updated, starting, loads={}, drained=(), now=NOW) == ()
    ready = [*old, worker(3, S.READY, revision=2)]
    actions = plan(updated, ready, loads={}, drained=(), now=NOW)
    assert [action for action in actions if isinstance(action, Drain)] == [
        Drain(old[1].id, "replaced by a new revision")
    ]


def test_an_old_worker_yields_its_hardware_when_a_new_one_fits_only_then() -> None:
    workers = [worker(1, S.READY), worker(2, S.PENDING, revision=2, reason="no card is free")]
    actions = plan(endpoint(desired=1, revision=2), workers, loads={}, drained=(), now=NOW, yield_hardware=True)
    assert [action.worker for action in actions if isinstance(action, Drain)] == ["w1"]


def test_failed_starts_back_off_exponentially_and_then_try_one_worker() -> None:
    failing = endpoint(desired=4, failures=Failures(count=3, last_at=NOW, last_reason="exit 1"))
    assert retry_at(failing.failures) == NOW + 4.0
    assert plan(failing, [], loads={}, drained=(), now=NOW + 3.9) == ()
    assert plan(failing, [], loads={}, drained=(), now=NOW + 4.0) == (Start(1),)
    assert retry_at(Failures(count=50, last_at=NOW)) == NOW + 300.0


def test_a_stopped_endpoint_wants_nothing_whatever_was_desired() -> None:
    actions = plan(endpoint(desired=3, phase=Phase.STOPPED), [worker(1, S.READY)], loads={}, drained=(), now=NOW)
    assert [type(action) for action in actions] == [Drain]


def step(workers: list[Worker], actions: object, revision: int, number: int) -> tuple[list[Worker], int]:
    """What the world makes of a plan when everything goes well: starts get ready, drains are confirmed, stops end."""
    assert isinstance(actions, tuple)
    by_id = {w.id: w for w in workers}
    for action in actions:
        if isinstance(action, Drain):
            by_id[action.worker] = replace(by_id[action.worker], state=S.DRAINING)
        elif isinstance(action, Stop):
            del by_id[action.worker]
        else:
            for _ in range(action.count):
                number += 1
                fresh = worker(number, S.READY, revision=revision)
                by_id[fresh.id] = fresh
    return list(by_id.values()), number


workers_strategy = st.lists(
    st.tuples(st.sampled_from([S.PENDING, S.STARTING, S.READY, S.DRAINING]), st.integers(1, 3)), max_size=8
)


@given(found=workers_strategy, desired=st.integers(0, 6), surge=st.integers(1, 3))
def test_plans_converge_and_never_leave_fewer_ready_than_before_or_wanted(
    found: list[tuple[WorkerState, int]], desired: int, surge: int
) -> None:
    workers = [worker(i, state, revision=revision) for i, (state, revision) in enumerate(found, 1)]
    number = len(workers)
    target = endpoint(desired=desired, revision=3, surge=surge)
    serving = sum(1 for w in workers if w.state is S.READY)
    for _ in range(30):
        drained = [w.id for w in workers if w.state is S.DRAINING]
        actions = plan(target, workers, loads={}, drained=drained, now=NOW)
        if not actions and all(w.state is S.READY for w in workers):
            break
        workers, number = step(workers, actions, 3, number)
        workers = [replace(w, state=S.READY) if w.state in (S.PENDING, S.STARTING) else w for w in workers]
        ready = sum(1 for w in workers if w.state is S.READY)
        assert ready >= min(serving, desired)
        wanted = [w for w in workers if w.state in WANTED]
        if any(w.revision != 3 for w in wanted) and len(found) <= desired:
            assert len(wanted) <= max(desired + surge, len(found))
    else:
        pytest.fail("the plans do not come to rest")
    assert [w.revision for w in workers] == [3] * desired

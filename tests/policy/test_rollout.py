"""The plan of a pass: what is started, drained and stopped, and that repeated passes come to rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import endpoint, worker
from stoker.domain.endpoint import Failures, Phase, PoolSpec, ScaleBounds, Strategy
from stoker.domain.worker import ACTIVE, WANTED, Worker, WorkerState
from stoker.policy.backoff import retry_at
from stoker.policy.rollout import Action, Chill, Drain, Start, Stop, Warm, plan

S = WorkerState
NOW = 1_000.0


def test_missing_workers_are_started_together() -> None:
    assert plan(endpoint(desired=3), [], loads={}, drained=(), now=NOW) == (Start("default", 3),)


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


def test_by_recreation_all_old_workers_go_before_a_new_one_starts() -> None:
    target = endpoint(desired=2, revision=2, strategy=Strategy.RECREATE)
    old = [worker(1, S.READY), worker(2, S.READY), worker(3, S.STARTING)]
    actions = plan(target, old, loads={}, drained=(), now=NOW)
    assert {(type(a), a.worker) for a in actions if isinstance(a, Drain | Stop)} == {
        (Drain, "w1"),
        (Drain, "w2"),
        (Stop, "w3"),
    }
    assert not any(isinstance(a, Start) for a in actions)
    leaving = [replace(old[0], state=S.DRAINING), replace(old[1], state=S.STOPPING)]
    assert plan(target, leaving, loads={}, drained=(), now=NOW) == ()
    gone = [replace(old[0], state=S.STOPPED)]
    assert plan(target, gone, loads={}, drained=(), now=NOW) == (Start("default", 2),)


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
    assert plan(updated, old, loads={}, drained=(), now=NOW) == (Start("default", 1),)
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
    assert retry_at(failing.failures["default"]) == NOW + 4.0
    assert plan(failing, [], loads={}, drained=(), now=NOW + 3.9) == ()
    assert plan(failing, [], loads={}, drained=(), now=NOW + 4.0) == (Start("default", 1),)
    assert retry_at(Failures(count=50, last_at=NOW)) == NOW + 300.0


def test_a_stopped_endpoint_wants_nothing_whatever_was_desired() -> None:
    actions = plan(endpoint(desired=3, phase=Phase.STOPPED), [worker(1, S.READY)], loads={}, drained=(), now=NOW)
    assert [type(action) for action in actions] == [Drain]


def pools(*bounds: tuple[int, int, int]) -> tuple[PoolSpec, ...]:
    """Pools a, b, ... with these minima, maxima and floors of ready and cold workers."""
    return tuple(
        PoolSpec(name=chr(ord("a") + index), bounds=ScaleBounds(min=low, max=high, cold=cold))
        for index, (low, high, cold) in enumerate(bounds)
    )


def test_pools_get_their_minima_and_then_fill_in_their_order() -> None:
    target = endpoint(desired=6, pools=pools((0, 3, 0), (1, 2, 0), (1, 9, 0)))
    actions = plan(target, [], loads={}, drained=(), now=NOW)
    assert actions == (Start("a", 3), Start("b", 2), Start("c", 1))


def test_a_pool_that_was_added_leaves_the_workers_of_others_alone() -> None:
    workers = [worker(1, S.READY, pool="a"), worker(2, S.READY, pool="a")]
    target = replace(endpoint(desired=3, pools=pools((0, 2, 0), (1, 2, 0)), revision=2), alike={"a": (1, 2), "b": (2,)})
    assert plan(target, workers, loads={}, drained=(), now=NOW) == (Start("b", 1),)


def test_workers_of_a_pool_that_is_gone_serve_until_others_do() -> None:
    workers = [worker(1, S.READY, pool="gone")]
    target = endpoint(desired=1, pools=pools((0, 2, 0)), revision=2)
    assert plan(target, workers, loads={}, drained=(), now=NOW) == (Start("a", 1),)
    workers.append(worker(2, S.READY, pool="a", revision=2))
    assert plan(target, workers, loads={}, drained=(), now=NOW) == (Drain(workers[0].id, "replaced by a new revision"),)


def test_one_worker_too_many_is_kept_cold_up_to_the_floor() -> None:
    workers = [worker(number, S.READY, pool="a") for number in (1, 2, 3)]
    actions = plan(endpoint(desired=0, pools=pools((0, 3, 1))), workers, loads={}, drained=(), now=NOW)
    drains = [action for action in actions if isinstance(action, Drain)]
    assert [(action.worker, action.chill) for action in drains] == [("w3", False), ("w2", False), ("w1", True)]
    chilling = worker(1, S.DRAINING, pool="a", chilling=True, drain_deadline=NOW + 9)
    target = endpoint(desired=0, pools=pools((0, 3, 1)))
    assert plan(target, [chilling], loads={}, drained=[chilling.id], now=NOW) == (Chill(chilling.id),)


def test_a_cold_worker_is_made_warm_before_another_is_started() -> None:
    workers = [worker(1, S.COLD, pool="a"), worker(2, S.READY, pool="a")]
    target = endpoint(desired=3, pools=pools((0, 3, 1)))
    assert plan(target, workers, loads={}, drained=(), now=NOW) == (Warm(workers[0].id), Start("a", 1))


def test_a_cold_worker_is_made_warm_though_another_starts_which_is_given_up_unless_it_is_to_be_kept() -> None:
    workers = [worker(1, S.COLD, pool="a"), worker(2, S.STARTING, pool="a")]
    target = endpoint(desired=1, pools=pools((0, 3, 0)))
    held = plan(target, workers, loads={}, drained=(), now=NOW, held=2)
    assert held == (Warm(workers[0].id),), "what starts is kept cold when it is ready"
    assert plan(target, workers, loads={}, drained=(), now=NOW, held=1) == (
        Stop(workers[1].id, "fewer workers wanted"),
        Warm(workers[0].id),
    )
    back = [replace(workers[0], state=S.STARTING, from_cold=True), workers[1]]
    assert plan(target, back, loads={}, drained=(), now=NOW, held=2) == ()


def test_nobody_counts_on_a_cold_worker_that_had_no_room_the_last_time() -> None:
    workers = [worker(1, S.COLD, pool="a", reason="its card is taken")]
    target = endpoint(desired=1, pools=pools((0, 3, 0)))
    assert plan(target, workers, loads={}, drained=(), now=NOW, held=1) == (Warm(workers[0].id), Start("a", 1))


def test_a_cold_worker_beyond_the_floor_or_of_an_old_revision_ends() -> None:
    workers = [worker(1, S.COLD, pool="a"), worker(2, S.COLD, pool="a")]
    beyond = plan(endpoint(pools=pools((0, 3, 1))), workers, loads={}, drained=(), now=NOW)
    assert beyond == (Stop(workers[1].id, "more cold workers than wanted"),)
    old = plan(endpoint(pools=pools((0, 3, 1)), revision=2), workers[:1], loads={}, drained=(), now=NOW)
    assert old == (Stop(workers[0].id, "replaced by a new revision"),)


def step(workers: list[Worker], actions: tuple[Action, ...], revision: int, number: int) -> tuple[list[Worker], int]:
    """What the world makes of a plan when everything goes well: starts get ready, drains are confirmed, stops end."""
    by_id = {w.id: w for w in workers}
    for action in actions:
        match action:
            case Drain(worker=drained, chill=chill):
                by_id[drained] = replace(by_id[drained], state=S.DRAINING, chilling=chill)
            case Stop(worker=stopped):
                del by_id[stopped]
            case Warm(worker=cold):
                by_id[cold] = replace(by_id[cold], state=S.STARTING, from_cold=True)
            case Chill(worker=idle):
                by_id[idle] = replace(by_id[idle], state=S.COLD, chilling=False)
            case Start(pool, count):
                for _ in range(count):
                    number += 1
                    fresh = worker(number, S.READY, revision=revision, pool=pool)
                    by_id[fresh.id] = fresh
    return list(by_id.values()), number


workers_strategy = st.lists(
    st.tuples(
        st.sampled_from([S.PENDING, S.STARTING, S.READY, S.DRAINING, S.COLD]),
        st.integers(1, 3),
        st.sampled_from("abc"),
    ),
    max_size=8,
)


@st.composite
def pool_specs(draw: st.DrawFn) -> tuple[PoolSpec, ...]:
    bounds = []
    for _ in range(draw(st.integers(1, 2))):
        high = draw(st.integers(0, 4))
        bounds.append((draw(st.integers(0, high)), high, draw(st.integers(0, high))))
    return pools(*bounds)


@given(found=workers_strategy, specs=pool_specs(), surge=st.integers(1, 3), data=st.data())
def test_plans_converge_and_never_leave_fewer_ready_than_before_or_wanted(
    found: list[tuple[WorkerState, int, str]], specs: tuple[PoolSpec, ...], surge: int, data: st.DataObject
) -> None:
    workers = [worker(i, state, revision=revision, pool=pool) for i, (state, revision, pool) in enumerate(found, 1)]
    number = len(workers)
    low, high = sum(p.bounds.min for p in specs), sum(p.bounds.max for p in specs)
    desired = data.draw(st.integers(low, high))
    target = endpoint(desired=desired, revision=3, surge=surge, pools=specs)
    # What a pool has above its maximum goes at once: that limit is about money.
    most = {p.name: p.bounds.max for p in specs}
    present = Counter(w.pool for w in workers if w.state is S.READY and w.revision == 3 and w.pool in most)
    serving = sum(1 for w in workers if w.state is S.READY) - sum(max(0, n - most[p]) for p, n in present.items())
    for _ in range(40):
        drained = [w.id for w in workers if w.state is S.DRAINING]
        actions = plan(target, workers, loads={}, drained=drained, now=NOW)
        if not actions and all(w.state in (S.READY, S.COLD) for w in workers):
            break
        workers, number = step(workers, actions, 3, number)
        workers = [replace(w, state=S.READY) if w.state in (S.PENDING, S.STARTING) else w for w in workers]
        ready = sum(1 for w in workers if w.state is S.READY)
        assert ready >= min(serving, desired)
        wanted = [w for w in workers if w.state in ACTIVE]
        floors = sum(p.bounds.cold for p in specs)
        if any(w.revision != 3 for w in wanted) and len(found) <= desired:
            assert len([w for w in workers if w.state in WANTED]) <= max(desired + surge + floors, len(found) + floors)
    else:
        pytest.fail("the plans do not come to rest")
    ready_in = {p.name: sum(1 for w in workers if w.pool == p.name and w.state is S.READY) for p in specs}
    held_in = {p.name: sum(1 for w in workers if w.pool == p.name) for p in specs}
    assert all(w.revision == 3 for w in workers)
    assert sum(ready_in.values()) == desired
    for pool in specs:
        assert pool.bounds.min <= ready_in[pool.name] <= pool.bounds.max
        assert held_in[pool.name] == max(ready_in[pool.name], pool.bounds.cold)

"""Failed starts: which pools wait, which go on, and when an endpoint has none left."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import endpoint, worker
from stoker.domain.endpoint import Endpoint, Failures, PoolSpec, ScaleBounds
from stoker.domain.worker import WorkerState as S
from stoker.policy.backoff import FAILURES_BEFORE_REFUSAL, caps, counted, out_of_reach, resting, retry_at, standing_of
from stoker.policy.pools import distribute
from stoker.policy.rollout import Start, plan

NOW = 1_000.0
BROKEN = Failures(count=FAILURES_BEFORE_REFUSAL, last_at=NOW, last_reason="exit 1")


def pools(*bounds: tuple[int, int]) -> tuple[PoolSpec, ...]:
    return tuple(PoolSpec(name=chr(97 + i), bounds=ScaleBounds(min=a, max=b)) for i, (a, b) in enumerate(bounds))


def two(desired: int = 2, *, failures: dict[str, Failures], first: tuple[int, int] = (0, 4)) -> Endpoint:
    """Pools a and b with room for four each."""
    return endpoint(desired=desired, pools=pools(first, (0, 4)), failures=failures)


def starts(which: Endpoint, *workers: object, now: float = NOW) -> dict[str, int]:
    actions = plan(which, workers, loads={}, drained=(), now=now)  # type: ignore[arg-type]
    return {action.pool: action.count for action in actions if isinstance(action, Start)}


def test_a_pool_that_rests_leaves_its_share_to_the_next() -> None:
    assert starts(two(failures={})) == {"a": 2}
    assert starts(two(failures={"a": BROKEN})) == {"b": 2}
    assert starts(two(failures={"b": BROKEN})) == {"a": 2}
    assert starts(two(failures={"a": BROKEN, "b": BROKEN})) == {}


def test_a_pool_whose_rest_is_over_is_tried_with_one_and_the_others_take_what_is_left() -> None:
    assert starts(two(3, failures={"a": BROKEN}), now=NOW + 4) == {"a": 1, "b": 2}
    trying = worker(1, S.STARTING, pool="a")
    assert starts(two(3, failures={"a": BROKEN}), trying, now=NOW + 4) == {"b": 2}, "one at a time"


def test_a_minimum_is_tried_again_though_the_others_have_enough() -> None:
    serving = worker(1, S.READY, pool="b")
    which = two(1, failures={"a": BROKEN}, first=(1, 4))
    assert starts(which, serving) == {}
    assert starts(which, serving, now=NOW + 4) == {"a": 1}


def test_what_is_beyond_all_maxima_goes_to_a_pool_that_starts() -> None:
    assert starts(two(10, failures={})) == {"a": 6, "b": 4}
    assert starts(two(10, failures={"a": BROKEN})) == {"b": 6}


def test_failures_are_counted_by_pool_and_once_in_a_pass() -> None:
    after = counted({}, pools=("a", "b"), reasons={"a": ["x", "y"]}, stable=(), now=NOW)
    assert after == {"a": Failures(count=1, last_at=NOW, last_reason="y")}
    again = counted(after, pools=("a", "b"), reasons={"a": ["z"], "b": ["z"]}, stable=("b",), now=NOW)
    assert {pool: each.count for pool, each in again.items()} == {"a": 2, "b": 1}
    assert counted(again, pools=("a", "b"), reasons={}, stable=("a",), now=NOW) == {"b": again["b"]}
    assert counted(again, pools=("a", "b"), reasons={}, stable=(), now=NOW) is again
    assert counted(again, pools=("b",), reasons={}, stable=(), now=NOW) == {"b": again["b"]}, "a pool that is gone"


@pytest.mark.parametrize(
    ("failures", "failing", "given_up", "earliest"),
    [
        pytest.param({}, False, False, None, id="none"),
        pytest.param({"a": BROKEN}, False, False, None, id="another pool is untried"),
        pytest.param({"a": BROKEN, "b": Failures(count=1, last_at=NOW)}, True, False, NOW + 1, id="one less often"),
        pytest.param({"a": BROKEN, "b": BROKEN}, True, True, NOW + 4, id="all"),
        pytest.param(
            {"a": BROKEN, "b": Failures(count=3, last_at=NOW - 3)}, True, True, NOW + 1, id="the soonest counts"
        ),
    ],
)
def test_an_endpoint_is_given_up_only_when_no_pool_starts(
    failures: dict[str, Failures], failing: bool, given_up: bool, earliest: float | None
) -> None:
    found = standing_of(two(failures=failures))
    assert (found.failing, found.given_up, found.earliest) == (failing, given_up, earliest)
    if failures:
        assert found.reason.startswith("pool ")


def test_pools_that_may_have_no_workers_do_not_count() -> None:
    which = endpoint(pools=pools((0, 4), (0, 0)), failures={"a": BROKEN})
    assert standing_of(which).given_up
    assert standing_of(which).reason == "exit 1", "of one pool that counts nothing need be named"


def test_workers_are_out_of_reach_when_the_other_pools_hold_too_few() -> None:
    which = two(failures={"a": BROKEN})
    assert [out_of_reach(which, wanted) for wanted in (0, 4, 5)] == [False, False, True]
    assert out_of_reach(two(failures={"a": BROKEN, "b": BROKEN}), 0)
    assert not out_of_reach(two(failures={}), 100)


FAILED = st.builds(Failures, count=st.integers(1, 60), last_at=st.floats(0, 2 * NOW), last_reason=st.just("x"))


@given(
    bounds=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    broken=st.dictionaries(st.sampled_from("abcd"), FAILED),
    desired=st.integers(0, 25),
    have=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([S.STARTING, S.READY, S.PENDING])), max_size=6),
)
def test_nothing_starts_in_a_pool_that_rests_and_the_others_fill_up(
    bounds: list[int], broken: dict[str, Failures], desired: int, have: list[tuple[str, S]]
) -> None:
    names = "abcd"[: len(bounds)]
    failures = {pool: each for pool, each in broken.items() if pool in names}
    which = endpoint(desired=desired, pools=pools(*((0, high) for high in bounds)), failures=failures)
    workers = [worker(n, state, pool=pool) for n, (pool, state) in enumerate(have, 1) if pool in names]
    begun = starts(which, *workers)
    rests = resting(failures, now=NOW)
    assert not rests & set(begun)
    assert all(begun.get(pool, 0) <= most for pool, most in caps(failures, now=NOW).items())
    counts = Counter(w.pool for w in workers)
    sound = [pool for pool in which.spec.pools if pool.name not in failures]
    room = sum(max(0, pool.bounds.max - counts[pool.name]) for pool in sound)
    over = any(counts[pool.name] > pool.bounds.max for pool in which.spec.pools)
    if not over:
        assert sum(begun.values()) <= max(0, desired - len(workers))
        assert sum(begun.values()) >= min(max(0, desired - len(workers)), room), "no sound pool is kept from starting"


@given(
    count=st.integers(0, 20),
    bounds=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    most=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 1)),
)
def test_no_pool_is_given_more_than_it_takes(count: int, bounds: list[int], most: dict[str, int]) -> None:
    given_ = distribute(count, pools(*((0, high) for high in bounds)), {}, most)
    assert sum(given_.values()) <= count
    assert all(given_[pool] <= limit for pool, limit in most.items() if pool in given_)
    assert all(number >= 0 for number in given_.values())


def test_the_pause_doubles_up_to_its_bound() -> None:
    assert [retry_at(Failures(count=count, last_at=0.0)) for count in (0, 1, 2, 3, 100)] == [None, 1.0, 2.0, 4.0, 300.0]
    assert retry_at(None) is None

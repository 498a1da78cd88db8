"""The bounds, by hand and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.simulate.bounds import levels, needs, wait_bound, work_bound, zero_wait_bound
from stoker.simulate.compare import Comparison
from stoker.simulate.trace import Profile, Trace, requests_of


def profile(slots: int = 1, start_s: float = 45.0) -> Profile:
    return Profile(slots=slots, start_s=start_s, sigma=0.0)


@pytest.mark.parametrize(("slots", "start_s", "expected"), [(1, 45.0, 165.0), (1, 200.0, 520.0), (2, 45.0, 110.0)])
def test_a_gap_is_bridged_only_where_that_is_cheaper_than_a_start(slots: int, start_s: float, expected: float) -> None:
    assert zero_wait_bound([0, 0, 100], [10, 10, 10], profile(slots, start_s)) == pytest.approx(expected)


def test_the_work_bound_is_all_work_on_full_workers_and_a_start() -> None:
    assert work_bound([10, 10, 20], profile(4)) == 55.0


def test_a_level_is_needed_while_so_many_workers_are() -> None:
    steps = needs([(0.0, 10.0), (2.0, 3.0), (5.0, 5.0)], slots=1)
    assert levels(steps) == [[(0.0, 10.0)], [(2.0, 10.0)]], "one that ends as another comes leaves no gap"


def test_who_may_wait_for_as_long_as_they_take_needs_no_worker_of_their_own() -> None:
    hardware = Profile(slots=1, start_s=10, sigma=0, wait_target_s=5)
    assert wait_bound([0, 0, 0], [4, 4, 4], hardware) == work_bound([4, 4, 4], hardware)
    assert wait_bound([0, 0], [25, 25], hardware) == pytest.approx(2 * (10 + 20))


REQUESTS = st.lists(
    st.tuples(st.floats(0, 2_000), st.integers(0, 30_000), st.integers(0, 3_000)), min_size=1, max_size=60
)


@given(rows=REQUESTS, slots=st.integers(1, 4))
def test_nobody_who_lets_nobody_wait_is_below_the_bound(rows: list[tuple[float, int, int]], slots: int) -> None:
    trace = Trace("drawn", (requests_of("e", rows),))
    result = Comparison(trace, Profile(slots=slots, workers_max=100)).result("static-peak")
    assert result.attainment_5s == 1.0
    assert result.zero_wait_bound_gpu_s >= result.work_bound_gpu_s - 1e-6

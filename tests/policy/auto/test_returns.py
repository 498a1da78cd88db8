"""Needs by the clock: found when they are regular, and only then."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from stoker.policy.auto.returns import INTERVALS_MAX, Returns, Window

LEAD_S, MISS_S = 60.0, 1_000.0


def of(intervals: list[float]) -> Returns:
    found, now = Returns(), 0.0
    found.note(now)
    for interval in intervals:
        now += interval
        found.note(now)
    return found


def window(intervals: list[float], *, miss_s: float = MISS_S) -> Window | None:
    return of(intervals).window(lead_s=LEAD_S, miss_cost_s=miss_s)


def test_what_comes_every_quarter_of_an_hour_is_due_shortly_before_the_next_one() -> None:
    found = window([900.0, 904.0, 897.0, 901.0, 899.0])
    assert found is not None
    assert 825.0 < found.opens_s <= 897.0 - LEAD_S
    assert 904.0 <= found.closes_s < 915.0
    assert found.cost_s < MISS_S


def test_three_of_a_kind_are_too_few() -> None:
    assert window([900.0] * 3) is None
    assert window([900.0] * 4) is not None


def test_a_few_that_came_at_another_time_change_nothing() -> None:
    found = window([900.0] * 9 + [1_800.0, 200.0, 900.0])
    assert found is not None
    assert found.closes_s < 950.0


def test_a_start_that_costs_less_than_waiting_for_it_is_not_prepared() -> None:
    assert window([900.0] * 8, miss_s=50.0) is None


def test_chance_is_hardly_ever_taken_for_a_clock() -> None:
    draw = random.Random(3)
    found = [window([draw.expovariate(1 / 1_000.0) for _ in range(draw.randint(4, 40))]) for _ in range(1_000)]
    assert sum(each is not None for each in found) <= 5


@given(intervals=st.lists(st.floats(1.0, 100_000.0), max_size=60), miss_s=st.floats(1.0, 100_000.0))
def test_no_window_costs_more_than_going_without(intervals: list[float], miss_s: float) -> None:
    found = window(intervals, miss_s=miss_s)
    assert found is None or found.cost_s < miss_s
    assert found is None or found.opens_s < found.closes_s < math.inf


@given(intervals=st.lists(st.floats(1.0, 100_000.0), max_size=60))
def test_the_last_ones_alone_are_remembered(intervals: list[float]) -> None:
    assert len(of(intervals).intervals) == min(len(intervals), INTERVALS_MAX)

"""Service times and demand: what requests ask of workers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.policy.auto.service import Arrivals, ServiceTime, demand, levels


def test_nothing_is_known_before_some_requests_have_ended() -> None:
    service = ServiceTime(0.0)
    service.note(1.0, in_flight=1, ended=0)
    service.note(2.0, in_flight=1, ended=1)
    assert not service.is_known
    assert service.seconds(5.0) == 5.0


def test_requests_that_take_longer_than_the_guess_are_known_to_before_any_has_ended() -> None:
    service = ServiceTime(0.0)
    service.note(0.0, in_flight=1, ended=0)
    service.note(40.0, in_flight=1, ended=0)
    assert service.seconds(5.0) == 40.0


@given(slots=st.integers(1, 50), seconds=st.floats(0.1, 100.0), rounds=st.integers(3, 60))
def test_the_service_time_of_full_slots_is_their_time_over_their_requests(
    slots: int, seconds: float, rounds: int
) -> None:
    service = ServiceTime(0.0)
    for index in range(rounds + 1):
        service.note(index * seconds, in_flight=slots, ended=index * slots)
    assert service.seconds(1.0) == pytest.approx(max(0.02, seconds), rel=0.01)


def test_long_requests_under_way_count_though_only_short_ones_have_ended() -> None:
    service = ServiceTime(0.0)
    service.note(0.0, in_flight=4, ended=0)
    service.note(1.0, in_flight=2, ended=10)
    service.note(100.0, in_flight=2, ended=10)
    assert service.seconds(1.0) > 20.0


def test_counts_that_begin_anew_are_those_of_another_gateway() -> None:
    service = ServiceTime(0.0)
    for index in range(100):
        service.note(float(index), in_flight=1, ended=index)
    service.note(100.0, in_flight=1, ended=1)
    service.note(101.0, in_flight=1, ended=2)
    assert service.seconds(1.0) == pytest.approx(1.0, rel=0.05)


def test_arrivals_are_forgotten_when_they_leave_the_window() -> None:
    arrivals = Arrivals()
    arrivals.note(0.0, arrived=3, present=3, window_s=10.0)
    arrivals.note(6.0, arrived=5, present=3, window_s=10.0)
    assert arrivals.count == 5
    arrivals.note(11.0, arrived=5, present=3, window_s=10.0)
    assert arrivals.count == 2


def test_it_is_known_when_the_number_will_be_lower_though_nobody_comes() -> None:
    arrivals = Arrivals()
    arrivals.note(0.0, arrived=0, present=0, window_s=10.0)
    assert arrivals.falls_s(5.0, window_s=10.0) == math.inf
    arrivals.note(20.0, arrived=2, present=2, window_s=10.0)
    assert arrivals.falls_s(24.0, window_s=10.0) == 6.0
    arrivals.note(25.0, arrived=1, present=1, window_s=10.0)
    assert arrivals.falls_s(25.0, window_s=30.0) == 5.0, "then it is believed that there are fewer"


def test_of_what_came_before_the_first_look_only_those_count_that_are_still_there() -> None:
    arrivals = Arrivals()
    arrivals.note(0.0, arrived=10_000, present=2, window_s=10.0)
    arrivals.note(1.0, arrived=10_001, present=3, window_s=10.0)
    assert arrivals.count == 3


def test_a_number_that_falls_for_a_moment_counts_nothing_twice() -> None:
    """A task has begun, and its gateway has not reported it so far."""
    arrivals = Arrivals()
    arrivals.note(0.0, arrived=3, present=3, window_s=60.0)
    arrivals.note(1.0, arrived=2, present=3, window_s=60.0)
    arrivals.note(2.0, arrived=3, present=3, window_s=60.0)
    assert arrivals.count == 3
    arrivals.note(10.0, arrived=1, present=1, window_s=60.0)
    arrivals.note(20.0, arrived=1, present=1, window_s=60.0)
    arrivals.note(21.0, arrived=2, present=1, window_s=60.0)
    assert arrivals.count == 4, "one that stays low is what it is"


@given(rate=st.floats(0.01, 100.0), service_s=st.floats(0.05, 300.0), slack_s=st.floats(0.5, 60.0))
def test_steady_arrivals_demand_what_littles_law_says(rate: float, service_s: float, slack_s: float) -> None:
    arrived = round(rate * (service_s + slack_s))
    assert demand(arrived, service_s=service_s, slack_s=slack_s) == pytest.approx(rate * service_s, abs=1.0)


@given(slots_needed=st.floats(0, 1_000), slots=st.integers(1, 64))
def test_levels_have_room_for_the_demand_and_none_to_spare(slots_needed: float, slots: int) -> None:
    count = levels(slots_needed, slots)
    assert count * slots >= slots_needed - 1e-6
    assert (count - 1) * slots < slots_needed or count == 0

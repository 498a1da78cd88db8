"""Knative's rule, for pods of ten requests at the utilisation of 0.7: seven for each."""

from __future__ import annotations

import pytest

from stoker.simulate.draws import StartTimes
from stoker.simulate.rules.knative import Kpa
from stoker.simulate.run import Run
from stoker.simulate.trace import PROFILES


def test_the_mean_of_a_minute_needs_so_many_pods() -> None:
    assert Kpa().scale(0.0, 7.1 / 7, 7.1 / 7, 2) == 2


def test_twice_what_is_ready_within_six_seconds_is_panic() -> None:
    assert Kpa().scale(0.0, 7.1 / 7, 14.1 / 7, 1) == 3


def test_panic_keeps_its_highest_until_a_minute_after_its_last_reason() -> None:
    rule = Kpa()
    assert rule.scale(0.0, 1.0, 5.0, 1) == 5
    assert rule.scale(60.0, 1.0, 1.0, 5) == 5
    assert rule.scale(62.0, 3.0, 1.0, 5) == 3


def test_not_more_than_half_goes_at_once() -> None:
    assert Kpa().scale(0.0, 1.0, 1.0, 8) == 4


def test_a_request_that_finds_nobody_is_seen_at_once_and_not_diluted_by_the_time_before() -> None:
    # Forty requests of ten seconds, an hour after the last one, between two ticks.
    arrivals = [0.5, *([3_601.3] * 40)]
    found = Run(arrivals, [10.0] * 41, PROFILES["A"], Kpa(), StartTimes(45.0, 0.0, 0), initial_workers=0).whole()
    assert found.waits[1] == pytest.approx(45.0)
    # Panic: as many as the mean of six seconds needs.
    assert found.peak >= 40 / (0.7 * 4)

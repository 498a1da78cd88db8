"""Means over windows: each is what the integral says, however long it has been remembered."""

from __future__ import annotations

import random

import pytest

from stoker.simulate.draws import StartTimes
from stoker.simulate.pool import Machines
from stoker.simulate.rules.averages import Averages
from stoker.simulate.run import View
from stoker.simulate.trace import PROFILES


def at(view: View, now: float, present: int) -> None:
    """What was present stays so until now; from then on so many are."""
    view.advance(now)
    view.in_flight = present


@pytest.mark.parametrize("window_s", [6.0, 60.0])
def test_a_mean_is_what_was_present_over_the_window(window_s: float) -> None:
    draw = random.Random(5)
    view = View((), PROFILES["A"], Machines(PROFILES["A"], StartTimes(45.0, 0.35, 0)))
    averages, seen = Averages(60.0), [0]
    averages.note(view)
    # More than is remembered in one piece.
    for second in range(1, 20_001):
        at(view, float(second), draw.randrange(4))
        averages.note(view)
        seen.append(view.in_flight)
    expected = sum(seen[-1 - int(window_s) : -1]) / window_s
    assert averages.mean(view, window_s) == pytest.approx(expected)
    assert len(averages._times) < 10_000


def test_a_whole_empty_window_makes_the_next_mean_begin_anew() -> None:
    view = View((), PROFILES["A"], Machines(PROFILES["A"], StartTimes(45.0, 0.35, 0)))
    averages = Averages(60.0, fresh=True)
    for now, present in ((0.0, 2), (2.0, 0), (4.0, 0), (400.0, 8), (402.0, 8), (404.0, 8)):
        at(view, now, present)
        averages.note(view)
    # Of six seconds: the period of two before the first look at it belongs to it.
    assert averages.mean(view, 60.0) == pytest.approx(8.0 * 4 / 6)

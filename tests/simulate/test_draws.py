"""Start times, beside values that numpy drew."""

from __future__ import annotations

import pytest

from stoker.simulate.draws import Normals, StartTimes

# numpy.random.default_rng(seed).standard_normal(3)
NUMPY = {
    0: (0.1257302210933933, -0.1321048632913019, 0.6404226504432821),
    3: (2.0409191213851825, -2.5556650313141818, 0.41809884672577885),
}
# Sum, least and most of 20,000 of seed 1013.
SUMMED = (75.53984304574443, -3.719217232288314, 3.812203846793677)


@pytest.mark.parametrize("seed", [0, 3])
def test_normals_are_those_of_numpy(seed: int) -> None:
    normals = Normals(seed)
    assert tuple(normals.draw() for _ in range(3)) == pytest.approx(NUMPY[seed], rel=1e-9)


def test_sums_of_many_draws_are_those_of_numpy_tails_and_wedges_included() -> None:
    normals = Normals(1_013)
    drawn = [normals.draw() for _ in range(20_000)]
    assert (sum(drawn), min(drawn), max(drawn)) == pytest.approx(SUMMED, rel=1e-9)


def test_the_same_start_takes_the_same_time_whatever_is_asked_before() -> None:
    forwards, backwards = StartTimes(45.0, 0.35, 3), StartTimes(45.0, 0.35, 3)
    late = backwards[2]
    assert [forwards[i] for i in range(3)] == [backwards[0], backwards[1], late]
    assert forwards[0] == pytest.approx(91.92602543533)


def test_without_spread_each_start_takes_the_median() -> None:
    assert StartTimes(45.0, 0.0, 1)[7] == pytest.approx(45.0)

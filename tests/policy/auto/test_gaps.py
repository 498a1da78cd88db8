"""How long a worker is kept: no other time would have cost less, by what was seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.policy.auto.gaps import _EDGES_S, _MIDDLES_S, Gaps, chances, keep_s

gaps = st.lists(st.floats(0.1, 200_000.0), max_size=60)


def of(lengths: list[float]) -> Gaps:
    found = Gaps()
    for length in lengths:
        found.note(length)
    return found


@given(own=gaps, others=gaps)
def test_chances_are_those_of_one_gap(own: list[float], others: list[float]) -> None:
    assert sum(chances(of(own), of(others))) == pytest.approx(1.0)


@given(own=gaps, others=gaps, miss_s=st.floats(1.0, 10_000.0))
def test_no_other_time_costs_less(own: list[float], others: list[float], miss_s: float) -> None:
    found = chances(of(own), of(others))

    def cost(tau_s: float) -> float:
        kept = sum(chance * (_MIDDLES_S[i] if _EDGES_S[i + 1] <= tau_s else tau_s) for i, chance in enumerate(found))
        return kept + miss_s * sum(chance for i, chance in enumerate(found) if _EDGES_S[i + 1] > tau_s)

    chosen = keep_s(of(own), of(others), miss_cost_s=miss_s)
    assert cost(chosen) <= min(map(cost, (0.0, *_EDGES_S[1:]))) + 1e-6


def test_short_gaps_are_bridged_and_long_ones_are_not() -> None:
    assert 20.0 <= keep_s(of([20.0] * 40), Gaps(), miss_cost_s=50.0) < 100.0
    assert keep_s(of([3_600.0] * 80), of([3_600.0] * 80), miss_cost_s=50.0) == 0.0


def test_a_level_without_experience_goes_by_that_of_the_others() -> None:
    assert keep_s(Gaps(), of([5_000.0] * 80), miss_cost_s=60.0) < keep_s(Gaps(), of([30.0] * 80), miss_cost_s=60.0)


def test_old_gaps_fade() -> None:
    found = of([30.0] * 500)
    assert found.total <= 87.0
    for _ in range(500):
        found.note(3_600.0)
    assert keep_s(found, Gaps(), miss_cost_s=60.0) < 30.0

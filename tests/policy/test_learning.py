"""What traffic teaches, and what it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.learned import SAMPLES_MAX, Kind, Learned, Place, Samples
from stoker.domain.worker import WorkerId
from stoker.policy.learning import Look, expected_start_s, kind_of_start, readings_of, sustained
from stoker.policy.signals import Reading

PLACE = Place("l", "process", "h")
BEFORE = Look(
    at=100.0,
    completions=10,
    busy_s=50.0,
    tokens=1_000,
    workers=frozenset({WorkerId("a"), WorkerId("b")}),
    slots=8,
    place=PLACE,
)
# Twenty seconds with all eight slots taken.
AFTER = replace(BEFORE, at=120.0, completions=110, busy_s=50.0 + 160.0, tokens=9_000)


def test_saturated_workers_show_what_one_of_them_sustains() -> None:
    assert sustained(BEFORE, AFTER) == (2.5, 200.0)
    assert sustained(BEFORE, replace(AFTER, tokens=1_000)) == (2.5, None), "no answer told its tokens"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"busy_s": 150.0}, id="slots were free"),
        pytest.param({"at": 105.0}, id="too short"),
        pytest.param({"completions": 12}, id="too few"),
        pytest.param({"completions": 3, "busy_s": 3.0}, id="another gateway counts"),
        pytest.param({"tokens": 10}, id="another control counts"),
        pytest.param({"workers": frozenset({WorkerId("a")})}, id="other workers"),
        pytest.param({"slots": 4}, id="other slots"),
        pytest.param({"place": None}, id="several places"),
    ],
)
def test_anything_else_teaches_nothing(changes: dict[str, object]) -> None:
    assert sustained(BEFORE, replace(AFTER, **changes)) is None  # type: ignore[arg-type]


def test_nobody_teaches_nothing() -> None:
    nobody: frozenset[WorkerId] = frozenset()
    assert sustained(replace(BEFORE, workers=nobody, slots=0), replace(AFTER, workers=nobody, slots=0)) is None


def test_the_first_start_at_a_place_is_cold_and_later_ones_are_warm() -> None:
    assert kind_of_start([]) is Kind.START_COLD
    assert kind_of_start([Kind.REQUESTS]) is Kind.START_COLD
    assert kind_of_start([Kind.START_COLD]) is Kind.START_WARM
    assert kind_of_start([Kind.START_WARM]) is Kind.START_WARM
    assert kind_of_start([Kind.RESUME]) is Kind.START_COLD
    assert kind_of_start([Kind.START_COLD], from_cold=True) is Kind.RESUME


@given(st.lists(st.floats(0, 1e6)), st.floats(0.01, 1.0))
def test_a_quantile_is_one_of_the_last_values_or_unknown(values: list[float], share: float) -> None:
    samples = Samples()
    for value in values:
        samples = samples.plus(value)
    assert samples.count == len(values)
    found = samples.quantile(share)
    last = values[-SAMPLES_MAX:]
    if found is None:
        assert not values
        return
    assert found in last
    assert sum(value <= found for value in last) >= share * len(last) - 1e-6
    assert sum(value < found for value in last) < share * len(last) + 1e-6


@given(st.lists(st.floats(1.0, 100.0), min_size=3, max_size=SAMPLES_MAX), st.floats(0, 1e9))
def test_one_odd_value_moves_the_median_no_further_than_to_its_neighbours(values: list[float], odd: float) -> None:
    samples = Samples(tuple(values), len(values))
    median, after = samples.quantile(0.5), samples.plus(odd).quantile(0.5)
    assert median is not None
    assert after is not None
    assert min(values) <= after <= max(values)


def test_an_expected_start_is_that_of_warm_ones_at_the_slowest_place_else_of_cold_ones() -> None:
    assert expected_start_s([], []) is None
    assert expected_start_s([], [Samples((30.2,), 1)]) == 31.0
    assert expected_start_s([Samples((2.0, 3.0, 90.0), 3), Samples((5.0,), 1)], [Samples((30.0,), 1)]) == 5.0
    assert expected_start_s([Samples((0.2,), 1)], []) == 1.0


def test_what_is_learned_becomes_signals_as_old_as_their_youngest_sample() -> None:
    def known(kind: Kind, host: str, value: float, at: float) -> Learned:
        return Learned(Place("launch", "process", host), kind, Samples().plus(value, at))

    found = readings_of(
        (
            known(Kind.START_COLD, "a", 90.0, 10.0),
            known(Kind.START_WARM, "a", 20.2, 20.0),
            known(Kind.RESUME, "a", 0.4, 25.0),
            known(Kind.RESUME, "b", 1.4, 15.0),
            known(Kind.REQUESTS, "a", 5.0, 30.0),
            known(Kind.REQUESTS, "b", 3.0, 40.0),
        ),
        now=100.0,
    )
    assert found == {
        "start_s": Reading(21.0, 80.0),
        "resume_s": Reading(1.4, 75.0),
        "requests_per_s": Reading(3.0, 60.0),
    }
    assert readings_of((), now=100.0) == {}

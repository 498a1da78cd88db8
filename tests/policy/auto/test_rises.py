"""How far the need rises while a worker starts, by what was seen of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker.policy.auto.rises import Rises, rule_of_thumb


def seen(needs: list[int], *, start_s: float = 10.0) -> Rises:
    rises = Rises()
    for second, need in enumerate(needs):
        rises.note(float(second), need, start_s=start_s)
    return rises


def test_a_need_that_stays_does_not_rise() -> None:
    assert seen([4] * 400).likely(4, chance=0.2, otherwise=3) == 0


def test_with_little_experience_the_rule_of_thumb_holds() -> None:
    assert Rises().likely(4, chance=0.2, otherwise=3) == 3
    assert seen([4] * 20).likely(4, chance=0.2, otherwise=3) == 3


def test_a_rise_that_always_follows_is_prepared_for() -> None:
    wave = ([2] * 5 + [7] * 5) * 60
    assert seen(wave).likely(2, chance=0.3, otherwise=0) == 5
    assert seen(wave).likely(7, chance=0.3, otherwise=0) == 0


def test_a_rise_less_likely_than_asked_for_is_not() -> None:
    needs = ([2] * 95 + [9] * 5) * 10
    assert seen(needs).likely(2, chance=0.5, otherwise=0) == 0
    assert seen(needs).likely(2, chance=0.05, otherwise=0) == 7


def test_nothing_is_learned_of_hours_in_which_nobody_came() -> None:
    rises = Rises()
    for hour in range(30):
        rises.note(hour * 3_600.0, 1, start_s=10.0)
        rises.note(hour * 3_600.0 + 5.0, 3, start_s=10.0)
    assert rises.likely(1, chance=0.5, otherwise=0) == 2


@given(needs=st.lists(st.integers(0, 100), max_size=200), chance=st.floats(0.01, 1.0), asked=st.integers(0, 100))
def test_the_answer_is_never_negative_and_grows_with_caution(needs: list[int], chance: float, asked: int) -> None:
    rises = seen(needs)
    found = rises.likely(asked, chance=chance, otherwise=0)
    assert 0 <= found <= 64
    assert rises.likely(asked, chance=chance / 2, otherwise=0) >= found


def test_the_rule_of_thumb_is_the_deviation_of_a_poisson_number() -> None:
    assert rule_of_thumb(0.0, 4, 0) == 0
    assert rule_of_thumb(16.0, 4, 4) == 2, "16 + 1.5 x 4 slots are 5.5 workers"

"""Times as texts and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.times import iso, seconds_of


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600.0),
        ("2026-01-01T00:00:00.5Z", 1_767_225_600.5),
        ("2026-01-01T00:00:00.123456789Z", 1_767_225_600.123456789),
        ("2026-01-01T00:00:00.5+00:00", 1_767_225_600.5),
    ],
)
def test_times_of_daemons_have_up_to_nine_digits_behind_the_second(stamp: str, seconds: float) -> None:
    assert seconds_of(stamp) == seconds


@given(st.floats(min_value=0.0, max_value=4e9))
def test_a_time_that_was_written_is_read_to_the_millisecond(at: float) -> None:
    assert iso(at).endswith("Z")
    assert seconds_of(iso(at)) == pytest.approx(at, abs=0.001001)
    assert seconds_of(iso(at, timespec="microseconds")) == pytest.approx(at, abs=0.000002)

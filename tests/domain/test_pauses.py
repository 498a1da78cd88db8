"""Pauses between tries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.pauses import doubled


@pytest.mark.parametrize(("failures", "pause_s"), [(0, 1.0), (1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (10**9, 5.0)])
def test_a_pause_doubles_with_each_failure_up_to_its_bound(failures: int, pause_s: float) -> None:
    assert doubled(1.0, failures, max_s=5.0) == pause_s


@given(st.floats(0.001, 1e4), st.integers(0, 10_000), st.floats(0.0, 1e6))
def test_more_failures_never_make_a_shorter_pause(first_s: float, failures: int, max_s: float) -> None:
    assert doubled(first_s, failures, max_s=max_s) <= doubled(first_s, failures + 1, max_s=max_s) <= max_s

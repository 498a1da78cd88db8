"""Spans of time as people write and read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stoker.cli.durations import age, clock, seconds, short
from stoker.cli.errors import CliError


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("1.5", 1.5), ("30s", 30), ("10m", 600), ("1h30m", 5400), ("2d", 172_800)]
)
def test_spans_are_read(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "10x", "-5", "m", "1h 30m"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(CliError) as caught:
        seconds(text)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("span_s", "text"), [(0.04, "0.0s"), (9.96, "10.0s"), (60, "60s"), (200, "3m"), (7200, "2h"), (200_000, "2d")]
)
def test_spans_are_shown_in_one_unit(span_s: float, text: str) -> None:
    assert short(span_s) == text


def test_ages_count_from_now() -> None:
    assert age("2026-01-01T00:00:00Z", datetime(2026, 1, 1, 0, 5, tzinfo=UTC)) == "5m"
    assert (age(None), clock(None)) == ("-", "-")

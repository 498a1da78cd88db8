"""Windows of time: when they are open, and which of them overlap."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.errors import Invalid
from stoker.domain.schedule import Window, active, check_window, overlap

BERLIN = "Europe/Berlin"
DAYS = Window("0 8 * * *", "0 20 * * *", BERLIN)
NIGHTS = Window("0 20 * * *", "0 8 * * *", BERLIN)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "now", "expected"),
    [
        pytest.param(DAYS, "2026-01-15T06:59:59", False, id="before it begins"),
        pytest.param(DAYS, "2026-01-15T07:00:00", True, id="from its first second on, in winter"),
        pytest.param(DAYS, "2026-07-15T06:00:00", True, id="an hour earlier in summer"),
        pytest.param(DAYS, "2026-07-15T17:59:59", True, id="to its last second"),
        pytest.param(DAYS, "2026-07-15T18:00:00", False, id="and not after it"),
        pytest.param(NIGHTS, "2026-01-16T03:00:00", True, id="over midnight"),
        pytest.param(Window("0 9 * * 1-5", "0 17 * * *", "UTC"), "2026-01-17T12:00:00", False, id="not on Saturdays"),
        pytest.param(Window("0 0 1 1 *", "0 0 2 1 *", "UTC"), "2026-01-01T23:00:00", True, id="once a year"),
    ],
)
def test_a_window_is_open_from_its_start_to_its_end(window: Window, now: str, expected: bool) -> None:
    assert active(window, at(now)) is expected


@given(st.integers(1_600_000_000, 1_900_000_000))
def test_days_and_nights_are_all_the_time_and_never_both(now: int) -> None:
    assert active(DAYS, now) != active(NIGHTS, now)


def test_windows_that_only_touch_do_not_overlap_though_clocks_are_put_forward() -> None:
    assert overlap([DAYS, NIGHTS]) is None


def test_an_overlap_names_both_and_the_first_time() -> None:
    found = overlap([DAYS, Window("0 6 * * *", "0 7 * * *", BERLIN), Window("30 9 * * 3", "0 10 * * *", "UTC")])
    assert found == (0, 2, "2024-01-03T09:30+00:00")


@pytest.mark.parametrize(
    ("window", "pointer"),
    [
        (Window("0 8 * *", "0 9 * * *", "UTC"), "/start"),
        (Window("0 25 * * *", "0 9 * * *", "UTC"), "/start"),
        (Window("0 0 30 2 *", "0 9 * * *", "UTC"), "/start"),
        (Window("0 8 * * *", "@daily", "UTC"), "/end"),
        (Window("0 8 * * *", "0 9 * * *", "Mars/Base"), "/time_zone"),
        (Window("0 8 * * *", "0 9 * * *", "../../etc/passwd"), "/time_zone"),
    ],
)
def test_what_is_no_window_is_refused_at_its_place(window: Window, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_window(window)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]


def test_schedules_that_begin_all_the_time_are_refused() -> None:
    with pytest.raises(Invalid, match="too often"):
        overlap([Window("*/4 * * * *", "1-59/4 * * * *", "UTC"), Window("2 0 1 1 *", "3 0 1 1 *", "UTC")])

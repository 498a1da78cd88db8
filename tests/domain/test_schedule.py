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


def opened(window: Window, begin: str, hours: int = 30) -> list[str]:
    """From when to when it is open, in UTC, looked at every minute."""
    first = int(at(begin)) // 60
    states = [active(window, minute * 60.0 + 59) for minute in range(first, first + 60 * hours)]
    edges = [m for m in range(1, len(states)) if states[m] is not states[m - 1]]
    return [datetime.fromtimestamp((first + edge) * 60, UTC).strftime("%d %H:%M") for edge in edges]


# In Berlin clocks go from 2 to 3 at 01:00 UTC on the 29th of March, and back at that time on the 25th of October.
@pytest.mark.parametrize(
    ("start", "end", "spring", "autumn"),
    [
        pytest.param("15 2", "45 2", [], ["25 00:15", "25 00:45"], id="within the hour"),
        pytest.param("30 2", "0 4", ["29 01:00", "29 02:00"], ["25 00:30", "25 03:00"], id="beginning in it"),
        pytest.param("0 1", "30 2", ["29 00:00", "29 01:00"], ["24 23:00", "25 00:30"], id="ending in it"),
        pytest.param("0 1", "0 5", ["29 00:00", "29 03:00"], ["24 23:00", "25 04:00"], id="around it"),
        pytest.param("0 3", "0 4", ["29 01:00", "29 02:00"], ["25 02:00", "25 03:00"], id="after it"),
    ],
)
def test_a_window_opens_once_where_clocks_are_changed(
    start: str, end: str, spring: list[str], autumn: list[str]
) -> None:
    window = Window(f"{start} * * *", f"{end} * * *", BERLIN)
    assert opened(window, "2026-03-28T18:00:00", 24) == spring
    assert opened(window, "2026-10-24T18:00:00", 24) == autumn


@pytest.mark.parametrize("zone", ["America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata"])
@given(hour=st.integers(0, 23), minute=st.sampled_from((0, 15, 30)), day=st.integers(0, 364))
def test_a_window_and_what_is_left_of_the_day_are_all_the_time_in_any_zone(
    zone: str, hour: int, minute: int, day: int
) -> None:
    begin, end = f"{minute} {hour} * * *", f"45 {(hour + 5) % 24} * * *"
    # The year in which Samoa went over the date line.
    now = at("2011-01-01T00:00:00") + 86_400.0 * day + 3_600.0 * hour
    assert active(Window(begin, end, zone), now) != active(Window(end, begin, zone), now)


def test_windows_in_different_zones_overlap_by_the_clocks_of_each() -> None:
    early = Window("0 7 * * *", "0 8 * * *", "UTC")
    assert overlap([Window("0 8 * * *", "0 9 * * *", BERLIN), early]) is not None
    summer = overlap([Window("0 10 * * *", "0 11 * * *", BERLIN), Window("0 8 * * *", "30 8 * * *", "UTC")])
    assert summer is not None
    assert summer[2].startswith("2024-03-31T"), "an hour later than in winter, from the first day of summer time on"
    hour = [Window("0 1 * * *", "30 2 * * *", BERLIN), Window("30 2 * * *", "0 4 * * *", BERLIN)]
    assert overlap(hour) is None


def test_windows_that_only_touch_do_not_overlap_though_clocks_are_put_forward() -> None:
    assert overlap([DAYS, NIGHTS]) is None
    assert overlap([Window(f"0 {hour} * * *", f"0 {hour + 1} * * *", BERLIN) for hour in range(6)]) is None


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

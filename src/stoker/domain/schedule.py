"""Windows of time from one cron expression's times to another's, in a time zone. Pure: the time is an argument."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from stoker.domain.errors import Invalid

# Overlaps are looked for in two years, one of which is a leap year.
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)
_LAST = datetime(2026, 1, 1, tzinfo=UTC)
# Beginnings and ends of all schedules of an endpoint in those years: a dozen windows that are there every day.
TIMES_MAX = 20_000
EXPRESSION_CHARS_MAX = 128


@dataclass(frozen=True, slots=True)
class Window:
    """Open from every time that the cron expression `start` names to the next one that `end` names."""

    start: str
    end: str
    time_zone: str


def check_window(window: Window) -> None:
    """Raises `Invalid` for what are no cron expressions with five fields, or is no time zone."""
    if not window.time_zone or len(window.time_zone) > 64:
        raise Invalid.at("/time_zone", "a time zone is written like Europe/Berlin")
    try:
        _zone(window.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid.at("/time_zone", f"there is no time zone {window.time_zone!r}") from None
    for name in ("start", "end"):
        expression = getattr(window, name)
        if len(expression) > EXPRESSION_CHARS_MAX or len(expression.split()) != 5:
            raise Invalid.at(f"/{name}", "a cron expression has five fields: minute, hour, day, month, day of the week")
        try:
            next(CronSim(expression, _FIRST))
        except (CronSimError, StopIteration):
            raise Invalid.at(f"/{name}", f"{expression!r} is no cron expression, or names no time at all") from None


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def active(window: Window, now: float) -> bool:
    """Is now within the window?"""
    # Expressions name minutes: within one the answer stays.
    return _active(window, int(now // 60))


@lru_cache(maxsize=4_096)
def _active(window: Window, minute: int) -> bool:
    # Going backwards begins before the given time, and this minute itself counts.
    after = datetime.fromtimestamp((minute + 1) * 60, _zone(window.time_zone))
    began = next(CronSim(window.start, after, reverse=True), None)
    ended = next(CronSim(window.end, after, reverse=True), None)
    return began is not None and (ended is None or began >= ended)


def overlap(windows: Sequence[Window]) -> tuple[int, int, str] | None:
    """Two windows that are open at the same time, by their places, and when they are first. Raises `Invalid` where
    there are too many to look at.
    """
    return _overlap(tuple(windows)) if len(windows) > 1 else None


@lru_cache(maxsize=1_024)
def _overlap(windows: tuple[Window, ...]) -> tuple[int, int, str] | None:
    until, before = None, 0
    budget = TIMES_MAX // len(windows)
    for began, ended, place in heapq.merge(*(_spans(w, place, budget) for place, w in enumerate(windows))):
        if until is not None and began < until:
            first, second = sorted((before, place))
            at = began.astimezone(_zone(windows[place].time_zone))
            return first, second, at.isoformat(timespec="minutes")
        until, before = ended, place
    return None


def _spans(window: Window, place: int, budget: int) -> Iterator[tuple[datetime, datetime, int]]:
    first = _FIRST.astimezone(_zone(window.time_zone)) - timedelta(minutes=1)
    starts, ends = CronSim(window.start, first), CronSim(window.end, first)
    began, ended, count = next(starts), next(ends), 0
    while began < _LAST:
        while ended <= began:
            ended, count = next(ends), count + 1
        yield began.astimezone(UTC), ended.astimezone(UTC), place
        while began < ended:
            began, count = next(starts), count + 1
            if count > budget:
                raise Invalid.at("/scaling/triggers", "schedules begin or end too often: a dozen times a day in all")

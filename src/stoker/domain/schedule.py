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
# Samoa has left out a whole day, others have only ever gone back by hours.
_SET_BACK_MAX = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Open from every time that the cron expression `start` names to the next one that `end` names, by the clocks of
    the time zone: an hour that they show twice counts once, one that they skip is over as it begins.
    """

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
    zone, now = _zone(window.time_zone), datetime.fromtimestamp(minute * 60, UTC)
    # Clocks that were put back may have shown the hour of a beginning that is past.
    after = now.astimezone(zone).replace(tzinfo=None) + _SET_BACK_MAX
    began = next((at for at in CronSim(window.start, after, reverse=True) if _instant(at, zone) <= now), None)
    return began is not None and _instant(next(CronSim(window.end, began)), zone) > now


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """When clocks in the zone show this. Of a time that they show twice, the first; one that they skip is when they are
    put forward. So what is later on a clock is never earlier.
    """
    first = wall.replace(tzinfo=zone)
    late, early = first.astimezone(UTC), first.replace(fold=1).astimezone(UTC)
    # Only of what clocks skip the second reading is the earlier one.
    if late <= early:
        return late
    before = early.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) / 2
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)


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
    zone, first = _zone(window.time_zone), _FIRST.replace(tzinfo=None) - timedelta(days=1, minutes=1)
    starts, ends = CronSim(window.start, first), CronSim(window.end, first)
    began, ended, count = next(starts), next(ends), 0
    while began < _LAST.replace(tzinfo=None):
        while ended <= began:
            ended, count = next(ends), count + 1
        span = _instant(began, zone), _instant(ended, zone)
        # One that lies within an hour that clocks skip is none.
        if span[0] < span[1]:
            yield *span, place
        while began < ended:
            began, count = next(starts), count + 1
            if count > budget:
                raise Invalid.at("/scaling/triggers", "schedules begin or end too often: a dozen times a day in all")

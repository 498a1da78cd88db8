"""Spans of time as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from stoker.cli.errors import CliError, Exit

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def seconds(text: str) -> float:
    """Seconds in `90`, `10m`, `1h30m`. Raises `CliError` with exit code 2.

    >>> seconds("1h30m")
    5400.0
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if text and not _PART.sub("", text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    raise CliError(f"{text[:32]!r} is no span of time; write it like 30s, 10m or 1h30m", Exit.USAGE)


def short(span_s: float) -> str:
    """A span in its largest fitting unit, as in a table of ages.

    >>> short(200)
    '3m'
    """
    if span_s < 10:
        return f"{max(0.0, span_s):.1f}s"
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if span_s >= 2 * size:
            return f"{int(span_s // size)}{unit}"
    return f"{int(span_s)}s"


def moment(text: str) -> datetime:
    """An ISO 8601 time of the API; one without a zone is in UTC."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def clock(text: str | None) -> str:
    """A time of the API as local hours, minutes and seconds."""
    return "-" if text is None else moment(text).astimezone().strftime("%H:%M:%S")


def age(text: str | None, now: datetime | None = None) -> str:
    """How long ago a time of the API is."""
    if text is None:
        return "-"
    return short(((now or datetime.now(UTC)) - moment(text)).total_seconds())

"""Times as callers say them: a moment in RFC 3339, or how long ago, as in 10m. Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from stoker.domain.errors import Invalid

TEXT_CHARS_MAX = 64
_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])")


def moment(pointer: str, text: str, *, now: float) -> float:
    """Seconds since the epoch. A moment without a zone is in UTC. Raises `Invalid` at `pointer`.

    >>> moment("/since", "1h30m", now=10_000.0)
    4600.0
    """
    text = text.strip()
    if text and not _PART.sub("", text):
        return now - sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    try:
        at = datetime.fromisoformat(text)
        seconds = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as exc:
        raise _unclear(pointer, text) from exc
    if not math.isfinite(seconds) or seconds < 0:
        raise _unclear(pointer, text)
    return seconds


def _unclear(pointer: str, text: str) -> Invalid:
    return Invalid.at(
        pointer, f"{text[:32]!r} is no time; write it like 2026-01-31T12:00:00Z, or how long ago, like 10m or 24h"
    )

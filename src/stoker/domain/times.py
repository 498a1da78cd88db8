"""Times as texts, in UTC: how faces write them, and how daemons say them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at: float, *, timespec: str = "milliseconds") -> str:
    """Seconds since the epoch as RFC 3339, which is ISO 8601; always with the zone, which some clients insist on.

    >>> iso(1767225600.5)
    '2026-01-01T00:00:00.500Z'
    """
    return datetime.fromtimestamp(at, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def seconds_of(stamp: str) -> float:
    """Seconds since the epoch of a time in UTC with up to nine digits behind the second, as Go writes it.

    >>> seconds_of("2026-01-01T00:00:00.5Z"), seconds_of("2026-01-01T00:00:00Z")
    (1767225600.5, 1767225600.0)
    """
    plain, _, rest = stamp.removesuffix("Z").partition(".")
    digits = rest.partition("+")[0]
    return datetime.fromisoformat(plain[:19] + "+00:00").timestamp() + (float(f"0.{digits}") if digits else 0.0)

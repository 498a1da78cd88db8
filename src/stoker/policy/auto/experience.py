"""What `auto` has learned, as it is kept from one start of control to the next. Pure data, bounded.

Numbers are rounded and zeros left out: some kilobytes for each endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

# What was learned of higher levels is not kept.
LEVELS_MAX: Final = 64

# (place, how much), of places that have any.
Histogram = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelKnown:
    """Of one level: since when it is not needed, how many requests are late without it, gaps by length; when it last
    `returned` after a long one, and how far apart such times were.
    """

    below_since: float = 0.0
    late: float | None = None
    gaps: Histogram = ()
    returned: float | None = None
    intervals: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """Of one endpoint: busy time and completions; the share of arrivals that persists; rises by the size of the need;
    gaps of all levels, and of each of the first `LEVELS_MAX`. `warm`: the same of its ready workers alone, where cold
    ones are back late.
    """

    service: tuple[float, float] = (0.0, 0.0)
    persistence: float = 1.0
    rises: Mapping[int, Histogram] = field(default_factory=dict)
    gaps: Histogram = ()
    levels: Mapping[int, LevelKnown] = field(default_factory=dict)
    warm: Experience | None = None


def histogram(counts: list[float]) -> Histogram:
    """The places of `counts` that have any."""
    return tuple((place, round(count, 3)) for place, count in enumerate(counts) if count >= 0.001)

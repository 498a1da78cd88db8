"""Pauses between tries of something that fails. What jitter they get is for whoever waits."""

from __future__ import annotations

# Beyond that no bound is that long, and a float would overflow in the end.
_DOUBLINGS_MAX = 60


def doubled(first_s: float, failures: int, *, max_s: float) -> float:
    """Seconds to wait after so many failures in a row: `first_s` after one (or none), twice as much after each more.

    >>> [doubled(1.0, failures, max_s=5.0) for failures in (0, 1, 2, 3, 4)]
    [1.0, 1.0, 2.0, 4.0, 5.0]
    """
    return min(max_s, first_s * 2.0 ** min(max(0, failures - 1), _DOUBLINGS_MAX))

"""What to do about weights: which are wanted, which make room, when to try again, what to say meanwhile. Pure.

Called by control's downloads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from stoker.domain.models import Hold, Weights, WeightsKey, WeightsState
from stoker.domain.pauses import doubled

# A server that restarts is back within seconds; one that is overloaded wants to be left alone.
BACKOFF_FIRST_S = 5.0
BACKOFF_MAX_S = 3_600.0
STEP_PERCENT = 10


def retry_at(failures: int, *, now: float, after_s: float | None = None) -> float:
    """When to try again after so many failures in a row, at least `after_s` from now."""
    pause_s = doubled(BACKOFF_FIRST_S, failures, max_s=BACKOFF_MAX_S)
    return now + min(BACKOFF_MAX_S, max(pause_s, after_s or 0.0))


def due(weights: Weights, *, wanted: bool, now: float) -> bool:
    """Should they be fetched now, when there is room for one more download?"""
    if not (wanted or weights.asked):
        return False
    if weights.state is WeightsState.FAILED:
        return weights.retry_at is not None and now >= weights.retry_at
    return weights.state in (WeightsState.ABSENT, WeightsState.DOWNLOADING)


def wants(weights: Weights, *, desired: int, fetched_before: bool) -> bool:
    """Does an active endpoint that asks for `desired` workers want these? One that rests wants them to be ready for its
    first request, but takes them back from nobody for whom they made room.
    """
    return desired > 0 or not fetched_before or weights.state is WeightsState.DOWNLOADING


def room(
    kept: Iterable[Weights], sizes: dict[WeightsKey, int], *, missing_bytes: int, protected: Collection[WeightsKey]
) -> tuple[WeightsKey, ...] | None:
    """What to remove so that `missing_bytes` come free: the least recently used first, none that is `protected`. `None`
    when that is not enough, so that nothing is removed in vain.
    """
    chosen: list[WeightsKey] = []
    for weights in sorted(kept, key=lambda w: (w.used_at, w.key)):
        if missing_bytes <= 0:
            break
        if weights.key not in protected and sizes.get(weights.key, 0) > 0:
            chosen.append(weights.key)
            missing_bytes -= sizes[weights.key]
    return tuple(chosen) if missing_bytes <= 0 else None


def steps(before: int | None, after: int | None) -> int | None:
    """The last multiple of ten per cent that was passed in between, if any."""
    if after is None:
        return None
    passed = after // STEP_PERCENT * STEP_PERCENT
    return passed if 0 < passed < 100 and passed > (before or 0) else None


def hold_of(weights: Weights | None, name: str, *, rate_bytes_per_s: float | None, now: float) -> Hold | None:
    """Why workers that need these weights cannot start; `None` when they can."""
    if weights is None:
        return Hold(
            f"the model {name!r} is not in the catalogue any more; add it again: stoker models add", failed=True
        )
    match weights.state:
        case WeightsState.READY:
            return None
        case WeightsState.FAILED if weights.retry_at is None:
            return Hold(f"the model {name!r} cannot be fetched: {weights.error}", failed=True)
        case WeightsState.FAILED:
            assert weights.retry_at is not None
            wait_s = max(0.0, weights.retry_at - now)
            return Hold(f"the model {name!r} could not be fetched, next try in {wait_s:.0f} s: {weights.error}")
    if weights.percent is None or weights.state is WeightsState.ABSENT:
        return Hold(f"downloading model {name}")
    left_s = None
    if weights.total_bytes is not None and rate_bytes_per_s:
        left_s = (weights.total_bytes - weights.done_bytes) / rate_bytes_per_s
    return Hold(f"downloading model {weights.percent} %", left_s=left_s)

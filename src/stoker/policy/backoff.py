"""What failed starts mean: which pools wait before the next try, and when an endpoint has none left to start in. Pure.

A pool on a broken provider, or with a launch that does not work there, keeps no other pool from starting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stoker.domain.endpoint import Endpoint, Failures, PoolSpec
from stoker.domain.pauses import doubled
from stoker.domain.worker import Worker, WorkerState
from stoker.policy.lifecycle import count_failures

# One second after the first failed start, doubling: fast enough to ride out a port taken or a slow disk, slow enough
# not to burn a machine on a command that cannot work.
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 300.0
# After this many failed starts in a row requests are refused instead of held.
FAILURES_BEFORE_REFUSAL = 3


def retry_at(failures: Failures | None) -> float | None:
    """When the next start may be tried after failed ones; `None` when at once."""
    if failures is None or failures.count == 0 or failures.last_at is None:
        return None
    return failures.last_at + doubled(BACKOFF_FIRST_S, failures.count, max_s=BACKOFF_MAX_S)


def resting(failures: Mapping[str, Failures], *, now: float) -> frozenset[str]:
    """The pools in which nothing is started yet."""
    return frozenset(pool for pool, each in failures.items() if (at := retry_at(each)) is not None and now < at)


def caps(failures: Mapping[str, Failures], *, now: float) -> dict[str, int]:
    """How many workers may be started at once in each pool where starts have failed: none while it rests, then one to
    try it, not a whole pool of them.
    """
    waiting = resting(failures, now=now)
    return {pool: 0 if pool in waiting else 1 for pool, each in failures.items() if each.count > 0}


def counted(
    failures: Mapping[str, Failures],
    *,
    pools: Iterable[str],
    reasons: Mapping[str, Sequence[str]],
    stable: Iterable[str],
    now: float,
) -> Mapping[str, Failures]:
    """The failures in a row by pool after a pass that saw failed starts with these `reasons`, and workers of these
    pools that are `stable`. The same object when nothing changed.
    """
    steady = frozenset(stable)
    after = {
        pool: count_failures(
            failures.get(pool, Failures()), reasons=list(reasons.get(pool, ())), stable=pool in steady, now=now
        )
        for pool in pools
    }
    kept = {pool: each for pool, each in after.items() if each.count > 0}
    return failures if kept == failures else kept


@dataclass(frozen=True, slots=True)
class Standing:
    """How starts of an endpoint stand. `failing`: those of all pools that may have workers have failed; `given_up`: so
    often that nobody waits for them. `count` is of the pool that failed least, `reason` the newest, with its pool
    where there are several. `earliest` is when one is tried again.
    """

    failing: bool = False
    given_up: bool = False
    count: int = 0
    reason: str = ""
    earliest: float | None = None


def standing_of(endpoint: Endpoint) -> Standing:
    """How its starts stand now."""
    pools = _with_room(endpoint)
    known = {pool.name: endpoint.failures.get(pool.name, Failures()) for pool in pools}
    failed = {pool: each for pool, each in known.items() if each.count > 0}
    if not failed:
        return Standing()
    newest = max(failed, key=lambda pool: failed[pool].last_at or 0.0)
    reason = failed[newest].last_reason
    count = min(each.count for each in known.values())
    times = [retry_at(each) for each in known.values()]
    return Standing(
        failing=count > 0,
        given_up=count >= FAILURES_BEFORE_REFUSAL,
        count=count,
        reason=reason if len(pools) == 1 else f"pool {newest}: {reason}",
        earliest=min((at for at in times if at is not None), default=None) if None not in times else None,
    )


def out_of_reach(endpoint: Endpoint, wanted: int) -> bool:
    """Can so many workers not be had, because starts of pools that would be needed keep failing?"""
    pools = _with_room(endpoint)
    broken = {
        pool.name for pool in pools if endpoint.failures.get(pool.name, Failures()).count >= FAILURES_BEFORE_REFUSAL
    }
    left = sum(pool.bounds.max for pool in pools if pool.name not in broken)
    return bool(broken) and (left == 0 or left < wanted)


def _with_room(endpoint: Endpoint) -> Sequence[PoolSpec]:
    """The pools that may have workers; all, where a number set by hand is above what they may."""
    return [pool for pool in endpoint.spec.pools if pool.bounds.max > 0] or endpoint.spec.pools


def trying(workers: Iterable[Worker]) -> frozenset[str]:
    """The pools in which a worker is on its way."""
    return frozenset(w.pool for w in workers if w.state in (WorkerState.PENDING, WorkerState.STARTING))

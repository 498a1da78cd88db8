"""Limits of keys: how many requests may begin with one, and how many may be under way. Pure; `gateway.proxy` asks.

A rate is a token bucket; whoever is over it is refused at once and never waits.
"""

from __future__ import annotations

from collections.abc import Iterable

from stoker.gateway.turns import Refusal
from stoker.link.messages import KeyEntry


class Quota:
    """What one key has left. Times are the caller's, in seconds."""

    __slots__ = ("_at", "_tokens", "entry", "under_way")

    def __init__(self, entry: KeyEntry, now: float) -> None:
        self.entry = entry
        self.under_way = 0
        self._at = now
        self._tokens = self._burst()

    def _burst(self) -> float:
        entry = self.entry
        if entry.burst is not None:
            return float(entry.burst)
        return max(1.0, entry.rate_per_s or 0.0)

    def enter(self, now: float) -> Refusal | None:
        """A request begins: `None`, and `leave` is due once; or why it may not."""
        entry = self.entry
        if entry.concurrency is not None and self.under_way >= entry.concurrency:
            return Refusal("key_concurrency", f"{entry.concurrency} requests with this key are under way already", 1.0)
        if entry.rate_per_s is not None:
            self._tokens = min(self._burst(), self._tokens + max(0.0, now - self._at) * entry.rate_per_s)
            self._at = now
            if self._tokens < 1.0:
                wait_s = (1.0 - self._tokens) / entry.rate_per_s
                return Refusal("key_rate", f"more than {entry.rate_per_s:g} requests a second with this key", wait_s)
            self._tokens -= 1.0
        self.under_way += 1
        return None

    def leave(self) -> None:
        """The request is over."""
        self.under_way -= 1


class Quotas:
    """The quotas of keys that have limits, by digest. They outlive changes of their keys."""

    __slots__ = ("_by_digest",)

    def __init__(self) -> None:
        self._by_digest: dict[str, Quota] = {}

    def of(self, key: KeyEntry, now: float) -> Quota | None:
        """The quota of this key; `None` when it has no limits."""
        if not key.limited:
            return None
        quota = self._by_digest.get(key.digest)
        if quota is None:
            quota = self._by_digest[key.digest] = Quota(key, now)
        elif quota.entry is not key:
            quota.entry = key
        return quota

    def keep(self, digests: Iterable[str]) -> None:
        """Forget those of all other keys, unless requests are under way with them."""
        kept = set(digests)
        for digest in [d for d, quota in self._by_digest.items() if d not in kept and not quota.under_way]:
            del self._by_digest[digest]

"""Room for weights on this host: removes those that nobody needs, when others need the room or the owner says so.

One at a time, so that two downloads never count on the same bytes. Used by downloads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import structlog

from stoker.domain.models import FetchFailed, Weights, WeightsKey, WeightsState
from stoker.models.cache import gib
from stoker.models.fetcher import Fetcher
from stoker.policy import weights as policy

log = structlog.get_logger(__name__)


class ModelRoom:
    """See the module. `weights` are all that are known, as they are at the moment of asking."""

    def __init__(
        self,
        fetcher: Fetcher,
        weights: Mapping[WeightsKey, Weights],
        *,
        protected: Callable[[], frozenset[WeightsKey]],
        promised: Callable[[WeightsKey], int],
        put: Callable[[Weights], Awaitable[None]],
    ) -> None:
        """`protected`: those that stay. `promised(key)`: bytes that downloads of others still have to write. `put`
        records how weights stand now.
        """
        self._fetcher = fetcher
        self._weights = weights
        self._protected = protected
        self._promised = promised
        self._put = put
        self._one = asyncio.Lock()

    async def make(self, key: WeightsKey, needed: int) -> None:
        """Make room for so many more bytes of these. Raises `FetchFailed`."""
        async with self._one:
            sizes = await self._fetcher.sizes()
            missing, full = await self._fetcher.missing(needed + self._promised(key), kept=sum(sizes.values()))
            if missing <= 0:
                return
            kept = [weights for weights in self._weights.values() if not weights.source.local]
            chosen = policy.room(kept, sizes, missing_bytes=missing, protected=self._protected() | {key})
            if chosen is None:
                raise FetchFailed(
                    f"{gib(needed)} more are needed and {full}; what is in use or pinned stays: make room with "
                    "`stoker models rm` or `stoker models prune`, or raise models_cache_gib",
                    permanent=True,
                )
            for other in chosen:
                await self._remove(other)

    async def prune(self, needed: Callable[[], frozenset[WeightsKey]]) -> tuple[tuple[WeightsKey, ...], int]:
        """Remove all that is neither protected nor `needed`: which, and how many bytes."""
        async with self._one:
            sizes = await self._fetcher.sizes()
            staying = self._protected() | needed()
            chosen = tuple(key for key in sizes if key not in staying and key in self._weights)
            return chosen, sum([await self._remove(key) for key in chosen])

    async def _remove(self, key: WeightsKey) -> int:
        sizes = await self._fetcher.sizes()
        known = self._weights.get(key)
        if known is not None:
            # First the row: what it says to be there must be there.
            await self._put(replace(known, state=WeightsState.ABSENT, path=None, done_bytes=0, asked=False))
            log.info("model_removed", weights=key, source=str(known.source), size_bytes=sizes.get(key, 0))
        await self._fetcher.remove(key)
        return sizes.get(key, 0)

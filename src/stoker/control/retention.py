"""Forgets what is past its time, in batches between which everybody else may write. Run by `stoker.app` as a loop."""

from __future__ import annotations

from collections.abc import Callable

from stoker.settings import Settings
from stoker.store.base import Store
from stoker.store.retention import RULES, Kept, prune

# Rows in one write: a few milliseconds.
BATCH_ROWS = 500
# Writes for one table in one step; what is left waits for the next step.
BATCHES_MAX = 200


class Retention:
    """See the module."""

    def __init__(self, store: Store, kept: Kept, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._kept = kept
        self._clock = clock

    async def step(self) -> None:
        """Look at every table once."""
        for table in RULES:
            for _ in range(BATCHES_MAX):
                if await self._batch(table) < BATCH_ROWS:
                    break

    async def _batch(self, table: str) -> int:
        now = self._clock()
        return await self._store.write(lambda tx: prune(tx, table, self._kept, now=now, limit=BATCH_ROWS))


def kept_of(settings: Settings) -> Kept:
    """What of the records is kept, and how long."""
    return Kept(
        events=settings.events_kept,
        decisions=settings.decisions_kept,
        audit=settings.audit_kept,
        workers_s=settings.ended_workers_kept_s,
        operations_s=settings.operations_kept_s,
        keys_s=settings.ended_keys_kept_s,
        idempotency_s=settings.idempotency_kept_s,
    )

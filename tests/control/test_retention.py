"""The owner of retention: on its own clock, in batches, up to a bound for each step."""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection, func, insert, select

from stoker.control import retention
from stoker.control.retention import Retention
from stoker.store.retention import Kept
from stoker.store.sqlite import InlineSqliteStore
from stoker.store.tables import idempotency


def test_a_step_forgets_in_batches_what_has_become_old() -> None:
    rows = retention.BATCH_ROWS * 2 + 10
    now = [100.0]

    def fill(tx: Connection) -> None:
        made = [
            {"project": 1, "route": "/r", "key": f"{n}", "digest": "d", "created_at": float(n)} for n in range(rows)
        ]
        tx.execute(insert(idempotency), made)

    def count(tx: Connection) -> int:
        return int(tx.execute(select(func.count()).select_from(idempotency)).scalar_one())

    async def main() -> None:
        store = InlineSqliteStore()
        await store.write(fill)
        owner = Retention(store, Kept(idempotency_s=100.0), clock=lambda: now[0])
        for at, left in ((100.0, rows), (101.0, rows - 1), (rows + 50.0, 50), (rows + 100.0, 0), (rows + 200.0, 0)):
            now[0] = at
            await owner.step()
            assert await store.read(count) == left, at
        await store.close()

    asyncio.run(main())

"""Rows per second of small writes, on SQLite and on PostgreSQL, both flushing to disk: `python bench/store.py`.

Three ways to write the same events: one row in each write, with 64 writers side by side (what group commit is for);
many rows in each write through SQLAlchemy; many rows in each write by a hot statement.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from sqlalchemy import Connection

import postgres
from stoker.domain.endpoint import EndpointId
from stoker.store import journal
from stoker.store.base import Store
from stoker.store.hot.base import EventRow
from stoker.store.opening import open_store

E = EndpointId("e")
WRITERS = 64
ROWS_AT_ONCE = 100
ROW = EventRow(1.0, "e", None, "info", "scaled", "0 -> 1 workers: demand of 1.0 by 1 waiting")
Way = Callable[[Store, int], Awaitable[None]]


def _one(tx: Connection) -> None:
    journal.add_event(tx, at=ROW.at, kind=ROW.kind, message=ROW.message, endpoint=E)


def _many(tx: Connection) -> None:
    for _ in range(ROWS_AT_ONCE):
        _one(tx)


def _many_hot(tx: Connection) -> None:
    journal.add_events(tx, [ROW] * ROWS_AT_ONCE)


async def grouped(store: Store, rows: int) -> None:
    async def writer() -> None:
        for _ in range(rows // WRITERS):
            await store.write(_one)

    await asyncio.gather(*(writer() for _ in range(WRITERS)))


async def core(store: Store, rows: int) -> None:
    for _ in range(rows // ROWS_AT_ONCE):
        await store.write(_many)


async def hot(store: Store, rows: int) -> None:
    for _ in range(rows // ROWS_AT_ONCE):
        await store.write(_many_hot)


WAYS: tuple[tuple[str, Way], ...] = (
    (f"one row a write, {WRITERS} writers", grouped),
    (f"{ROWS_AT_ONCE} rows a write, SQLAlchemy", core),
    (f"{ROWS_AT_ONCE} rows a write, hot statement", hot),
)


async def measure(url: str | None, folder: Path, *, rows: int, rounds: int) -> dict[str, float]:
    """The best of some rounds of each way, taken in turns, in rows per second."""
    store = await open_store(url, file=folder / "stoker.db", data_dir=folder)
    best: dict[str, float] = {}
    try:
        for _ in range(rounds):
            for name, way in WAYS:
                began = time.perf_counter()
                await way(store, rows)
                best[name] = max(best.get(name, 0.0), rows / (time.perf_counter() - began))
    finally:
        await store.close()
    return best


def main() -> None:
    """Measure both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=6_400)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, postgres.server(durable=True) as server:
        folder = Path(name)
        found = {
            "SQLite": asyncio.run(measure(None, folder, rows=options.rows, rounds=options.rounds)),
            "PostgreSQL": asyncio.run(measure(server.database(), folder, rows=options.rows, rounds=options.rounds)),
        }
    sys.stdout.write(f"{'rows per second (µs a row)':34}" + "".join(f"{store:>22}" for store in found) + "\n")
    for way, _ in WAYS:
        cells = "".join(f"{f'{each[way]:,.0f} ({1e6 / each[way]:.0f})':>22}" for each in found.values())
        sys.stdout.write(f"{way:34}{cells}\n")


if __name__ == "__main__":
    main()

"""Opens the store that the settings name. The driver for PostgreSQL is imported here, and only when it is named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from stoker.domain.errors import Unsupported
from stoker.store import sqlite
from stoker.store.base import Store

T = TypeVar("T")


async def open_store(
    database: str | None,
    *,
    file: Path,
    data_dir: Path,
    waiting: Callable[[str], None] = lambda _: None,
    patience_s: float | None = None,
) -> Store:
    """The store at the address `database`, or in the SQLite `file` for `None`. See both for what they raise.

    `patience_s` is for a writer of few, long transactions: how long one may take on a server, instead of a minute.
    """
    if database is None:
        return sqlite.open_file(file)
    with _driver_wanted():
        from stoker.store.postgres_opening import open_database
    store = await open_database(database, data_dir=data_dir, waiting=waiting)
    if patience_s is not None:
        store.patience_s = patience_s
    return store


async def snapshot(database: str | None, query: Callable[[Connection], T], *, file: Path) -> T:
    """Run a query that sees one moment of the database, as it is now, beside whoever uses it. Migrates nothing.

    Raises `Invalid` when there is no database.
    """
    if database is None:
        return await asyncio.to_thread(sqlite.snapshot, file, query)
    with _driver_wanted():
        from stoker.store import postgres_opening
    return await postgres_opening.snapshot(database, query)


@contextmanager
def _driver_wanted() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as exc:
        raise Unsupported(
            f"PostgreSQL needs the package {exc.name}, which is not installed: pip install 'stoker[postgres]'"
        ) from exc

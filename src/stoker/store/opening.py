"""Opens the store that the settings name. The driver for PostgreSQL is imported here, and only when it is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stoker.domain.errors import Unsupported
from stoker.store import sqlite
from stoker.store.base import Store


async def open_store(
    database: str | None, *, file: Path, data_dir: Path, waiting: Callable[[str], None] = lambda _: None
) -> Store:
    """The store at the address `database`, or in the SQLite `file` for `None`. See both for what they raise."""
    if database is None:
        return sqlite.open_file(file)
    try:
        from stoker.store.postgres_opening import open_database
    except ModuleNotFoundError as exc:
        raise Unsupported(
            f"PostgreSQL needs the package {exc.name}, which is not installed: pip install 'stoker[postgres]'"
        ) from exc
    return await open_database(database, data_dir=data_dir, waiting=waiting)

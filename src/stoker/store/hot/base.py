"""Hot statements: SQL for many rows at once, written for each store by hand, where SQLAlchemy's own work would cost
more than the database's. One file for each store beside this one; everything else is a query in `stoker.store`.

They run on the driver's own connection, within the transaction of the command that uses them. What a driver raises is
not translated: a hot statement is one that does not fail but with the connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection


class EventRow(NamedTuple):
    """A row of `events`, in the order of the statements' columns; its number is given by the database."""

    at: float
    endpoint: str | None
    worker: str | None
    level: str
    kind: str
    message: str


class Hot(Protocol):
    """What each file of a store has; `driver` is that store's own connection."""

    def add_events(self, driver: Any, rows: Sequence[EventRow]) -> None:
        """Insert events, numbered in this order."""


@cache
def _of_dialect(dialect: str) -> Hot:
    # Imported on first use: each store's file needs its own driver's way of waiting.
    return import_module(f"stoker.store.hot.{dialect}").HOT  # type: ignore[no-any-return]


def add_events(tx: Connection, rows: Sequence[EventRow]) -> None:
    """Insert events, numbered in this order."""
    if rows:
        _of_dialect(tx.dialect.name).add_events(tx.connection.driver_connection, rows)

"""Hot statements of SQLite: one prepared statement, executed for each row without a round trip through Python."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from stoker.store.hot.base import EventRow

_ADD_EVENTS = "INSERT INTO events (at, endpoint, worker, level, kind, message) VALUES (?, ?, ?, ?, ?, ?)"


class _Sqlite:
    def add_events(self, driver: sqlite3.Connection, rows: Sequence[EventRow]) -> None:
        driver.executemany(_ADD_EVENTS, rows)


HOT = _Sqlite()

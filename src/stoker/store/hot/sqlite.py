"""Hot statements of SQLite: one prepared statement, executed for each row without a round trip through Python."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from stoker.store.hot.base import LEASED, EndRow, EventRow, Lease, TaskRow

_ADD_EVENTS = "INSERT INTO events (at, endpoint, worker, level, kind, message) VALUES (?, ?, ?, ?, ?, ?)"

_TASK_COLUMNS = ", ".join(TaskRow._fields)
_ADD_TASK = f"""
INSERT INTO tasks ({_TASK_COLUMNS}, state, attempts, deliveries, cancelling, reason)
VALUES ({", ".join("?" * len(TaskRow._fields))}, 'queued', 0, 0, 0, '')
"""
_LEASE = f"""
UPDATE tasks SET state = 'running', deliveries = deliveries + 1, lease = 't' || number || '-' || (deliveries + 1),
  holder = :holder, lease_until = :until, started_at = coalesce(started_at, :now)
WHERE number IN (
  SELECT number FROM tasks
  WHERE endpoint = :endpoint AND state = 'queued' AND not_before <= :now AND cancelling = 0
    AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > :now)
  ORDER BY rank, number LIMIT :limit
)
RETURNING {", ".join(LEASED)}
"""
_END = """
UPDATE tasks SET state = :state, not_before = :not_before, ended_at = :ended_at, forget_at = :forget_at,
  attempts = :attempts, status = :status, worker = :worker, reason = :reason, result_type = :result_type,
  result_size = :result_size, result_file = :result_file, result = :result, lease = NULL, holder = NULL,
  lease_until = NULL
WHERE number = :number AND lease = :lease AND state = 'running'
"""
_ADD_ATTEMPT = """
INSERT INTO attempts (task, attempt, worker, began_at, ended_at, outcome, status, reason)
VALUES (:number, :attempts, :worker, :began_at, :at, :outcome, :status, :reason)
"""
_RENEW = "UPDATE tasks SET lease_until = ? WHERE number = ? AND lease = ? AND state = 'running'"


class _Sqlite:
    def add_events(self, driver: sqlite3.Connection, rows: Sequence[EventRow]) -> None:
        driver.executemany(_ADD_EVENTS, rows)

    def add_tasks(self, driver: sqlite3.Connection, rows: Sequence[TaskRow]) -> list[int]:
        return [driver.execute(_ADD_TASK, row).lastrowid or 0 for row in rows]

    def lease_tasks(self, driver: sqlite3.Connection, lease: Lease) -> list[tuple[Any, ...]]:
        return driver.execute(_LEASE, lease._asdict()).fetchall()

    def end_attempts(self, driver: sqlite3.Connection, rows: Sequence[EndRow]) -> set[int]:
        ended = [row for row in rows if driver.execute(_END, row._asdict()).rowcount]
        driver.executemany(_ADD_ATTEMPT, [row._asdict() for row in ended if row.outcome is not None])
        return {row.number for row in ended}

    def renew_leases(self, driver: sqlite3.Connection, leases: Sequence[tuple[int, str]], until: float) -> set[int]:
        return {number for number, lease in leases if driver.execute(_RENEW, (until, number, lease)).rowcount}


HOT = _Sqlite()

"""Hot statements of PostgreSQL: all rows as columns of arrays, so that one round trip carries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.util import await_only

from stoker.store.hot.base import LEASED, EndRow, EventRow, Lease, TaskRow

# ORDINALITY: numbers follow the order of the rows.
_ADD_EVENTS = """
INSERT INTO events (at, endpoint, worker, level, kind, message)
SELECT at, endpoint, worker, level, kind, message
FROM unnest($1::float8[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
  WITH ORDINALITY AS t (at, endpoint, worker, level, kind, message, place)
ORDER BY place
"""

# Types of the columns that these statements carry as arrays.
_TYPES = {
    **dict.fromkeys(("number", "input_size", "result_size"), "int8"),
    **dict.fromkeys(("project", "rank", "attempts", "status", "port"), "int4"),
    **dict.fromkeys(("created_at", "not_before", "expires_at", "ended_at", "forget_at", "began_at", "at"), "float8"),
    **dict.fromkeys(("execution_timeout_s", "retention_s"), "float8"),
    **dict.fromkeys(("input", "result"), "bytea"),
}


def _unnested(fields: Sequence[str]) -> str:
    """The rows of a statement: one array for each column."""
    arrays = ", ".join(f"${place}::{_TYPES.get(name, 'text')}[]" for place, name in enumerate(fields, 1))
    return f"unnest({arrays}) WITH ORDINALITY AS t ({', '.join(fields)}, place)"


_TASK_COLUMNS = ", ".join(TaskRow._fields)
_ADD_TASKS = f"""
INSERT INTO tasks ({_TASK_COLUMNS}, state, attempts, deliveries, cancelling, reason)
SELECT {_TASK_COLUMNS}, 'queued', 0, 0, false, ''
FROM {_unnested(TaskRow._fields)}
ORDER BY place
RETURNING number, endpoint, id
"""
_LEASE = f"""
UPDATE tasks SET state = 'running', deliveries = deliveries + 1, lease = 't' || number || '-' || (deliveries + 1),
  holder = $4, lease_until = $5, started_at = coalesce(started_at, $2)
WHERE number IN (
  SELECT number FROM tasks
  WHERE endpoint = $1 AND state = 'queued' AND not_before <= $2 AND NOT cancelling
    AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > $2)
  ORDER BY rank, number LIMIT $3
)
RETURNING {", ".join(LEASED)}
"""
# In one round trip: what ends, and the attempts of that alone.
_END = f"""
WITH t AS (SELECT * FROM {_unnested(EndRow._fields)}), ended AS (
  UPDATE tasks SET state = t.state, not_before = t.not_before, ended_at = t.ended_at, forget_at = t.forget_at,
    attempts = t.attempts, status = t.status, worker = t.worker, reason = t.reason, result_type = t.result_type,
    result_size = t.result_size, result_file = t.result_file, result = t.result, lease = NULL, holder = NULL,
    lease_until = NULL
  FROM t
  WHERE tasks.number = t.number AND tasks.lease = t.lease AND tasks.state = 'running'
  RETURNING tasks.number, t.place
), made AS (
  INSERT INTO attempts (task, attempt, worker, began_at, ended_at, outcome, status, reason)
  SELECT t.number, t.attempts, t.worker, t.began_at, t.at, t.outcome, t.status, t.reason
  FROM t JOIN ended USING (place) WHERE t.outcome IS NOT NULL
)
SELECT number FROM ended
"""
_RENEW = """
UPDATE tasks SET lease_until = $3 FROM unnest($1::int8[], $2::text[]) AS t (number, lease)
WHERE tasks.number = t.number AND tasks.lease = t.lease AND tasks.state = 'running'
RETURNING tasks.number
"""


class _Postgresql:
    def add_events(self, driver: Any, rows: Sequence[EventRow]) -> None:
        # The session's own conversion of texts does not reach into arrays; a message is what others have printed.
        rows = [row._replace(message=row.message.replace("\0", "\ufffd")) for row in rows]
        # Commands run on SQLAlchemy's greenlet, from where the driver can be waited for.
        await_only(driver.execute(_ADD_EVENTS, *zip(*rows, strict=True)))

    def add_tasks(self, driver: Any, rows: Sequence[TaskRow]) -> list[int]:
        added = await_only(driver.fetch(_ADD_TASKS, *zip(*rows, strict=True)))
        numbers = {(row["endpoint"], row["id"]): row["number"] for row in added}
        return [numbers[row.endpoint, row.id] for row in rows]

    def lease_tasks(self, driver: Any, lease: Lease) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await_only(driver.fetch(_LEASE, *lease))]

    def end_attempts(self, driver: Any, rows: Sequence[EndRow]) -> set[int]:
        rows = [row._replace(reason=row.reason.replace("\0", "\ufffd")) for row in rows]
        return {row["number"] for row in await_only(driver.fetch(_END, *zip(*rows, strict=True)))}

    def renew_leases(self, driver: Any, leases: Sequence[tuple[int, str]], until: float) -> set[int]:
        return {row["number"] for row in await_only(driver.fetch(_RENEW, *zip(*leases, strict=True), until))}


HOT = _Postgresql()

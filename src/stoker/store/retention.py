"""How long rows stay: one rule for each table, and the statement that forgets a bounded number of them.

Called by `stoker.control.retention`, the one owner of this. A table without a rule fails a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, func, or_, select, tuple_

from stoker.domain.worker import GONE
from stoker.store.tables import audit, decisions, events, idempotency, keys, metadata, operations, workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is kept: of the journals the newest so many, of everything else so many seconds after its end."""

    events: int = 10_000
    decisions: int = 10_000
    audit: int = 100_000
    workers_s: float = 604_800.0
    operations_s: float = 604_800.0
    keys_s: float = 2_592_000.0
    idempotency_s: float = 86_400.0


# (what is kept, now) -> which rows go.
Rule = Callable[[Kept, float], ColumnElement[bool]]


def _but_newest(table: Table, kept: int) -> ColumnElement[bool]:
    # At least one stays, or SQLite would count from 1 again.
    newest = select(func.max(table.c.number)).scalar_subquery()
    return table.c.number <= newest - max(1, kept)


RULES: Mapping[str, Rule] = {
    events.name: lambda kept, _: _but_newest(events, kept.events),
    decisions.name: lambda kept, _: _but_newest(decisions, kept.decisions),
    audit.name: lambda kept, _: _but_newest(audit, kept.audit),
    # One that is not released yet still holds its port.
    workers.name: lambda kept, now: and_(
        workers.c.state.in_([state.value for state in GONE]), workers.c.released_at < now - kept.workers_s
    ),
    operations.name: lambda kept, now: operations.c.ended_at < now - kept.operations_s,
    keys.name: lambda kept, now: or_(keys.c.revoked_at < now - kept.keys_s, keys.c.expires_at < now - kept.keys_s),
    idempotency.name: lambda kept, now: idempotency.c.created_at < now - kept.idempotency_s,
}
# Tables that lose their rows in another way, and which.
LASTING: Mapping[str, str] = {
    "counters": "a row for each kind of object",
    "projects": "until its owner deletes it",
    "endpoints": "until its owner deletes it",
    "secrets": "until its owner deletes it",
    "models": "until its owner deletes it",
    "templates": "until its owner deletes it",
    "volumes": "until its owner deletes it",
    "tasks": "for their endpoint's `queue.retention_s` after their end, forgotten by the queue",
    "attempts": "as long as their task",
    "deliveries": "as long as their task",
    "task_keys": "as long as their task",
    "pauses": "until its owner resumes it, or the endpoint is gone",
    "weights": "as long as a model names them, and within the cache's size",
    "credentials": "until its owner deletes it",
    "usage_requests": "by the hour, trimmed with the books",
    "usage_workers": "by the hour, trimmed with the books",
    "usage_endpoints": "trimmed with the books",
    "usage_marks": "trimmed with the books",
    "usage_accrual": "trimmed with the books",
    "learned": "trimmed with the books",
    "experiences": "as long as their endpoint",
    "revisions": "the newest of each endpoint, pruned when it gets another, and those that its workers run",
}


def prune(tx: Connection, table: str, kept: Kept, *, now: float, limit: int) -> int:
    """Forget up to `limit` rows of the table that are past their time. How many."""
    rows = metadata.tables[table]
    own = [*rows.primary_key.columns]
    old = select(*own).where(RULES[table](kept, now)).limit(limit)
    which = own[0].in_(old) if len(own) == 1 else tuple_(*own).in_(old)
    return tx.execute(delete(rows).where(which)).rowcount

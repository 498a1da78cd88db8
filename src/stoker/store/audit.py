"""Audit events: rows and queries. Written in the transaction of the change that they tell of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select

from stoker.domain.endpoint import ProjectId
from stoker.domain.project import AUDITED_CHARS_MAX, AuditDraft, AuditEvent, Outcome
from stoker.store.tables import audit, keys

# Made once: putting a statement together takes longer than running it.
_INSERT = insert(audit)


def add(tx: Connection, draft: AuditDraft) -> None:
    """Record it."""
    tx.execute(
        _INSERT,
        {
            "at": draft.at,
            "project": draft.project,
            "key": draft.by,
            "action": draft.action,
            "target": draft.target,
            "name": draft.name[:255],
            "before": _bounded(draft.before),
            "after": _bounded(draft.after),
            "outcome": draft.outcome.value,
            "operation": draft.operation,
        },
    )


def _bounded(value: Mapping[str, Any] | None) -> str | None:
    if value is None:
        return None
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= AUDITED_CHARS_MAX else msgspec.json.encode({"too_long": len(text)}).decode()


def page(
    tx: Connection, *, project: ProjectId, before: int | None, limit: int, action: str | None, target: str | None
) -> tuple[AuditEvent, ...]:
    """Up to `limit` events of the project with numbers below `before`, newest first. `action` is one or, as in `key.`,
    the beginning of several.
    """
    query = select(audit, keys.c.name.label("key_name")).join_from(audit, keys, audit.c.key == keys.c.id, isouter=True)
    query = query.where(audit.c.project == project)
    if before is not None:
        query = query.where(audit.c.number < before)
    if action is not None:
        # Not LIKE, for which SQLite takes capitals and small letters as the same.
        query = query.where(func.substr(audit.c.action, 1, len(action)) == action)
    if target is not None:
        query = query.where((audit.c.target == target) | (audit.c.name == target))
    return tuple(
        AuditEvent(
            number=row.number,
            at=row.at,
            project=row.project,
            by=row.key,
            key_name=row.key_name,
            action=row.action,
            target=row.target,
            name=row.name,
            before=row.before,
            after=row.after,
            outcome=Outcome(row.outcome),
            operation=row.operation,
        )
        for row in tx.execute(query.order_by(audit.c.number.desc()).limit(limit))
    )

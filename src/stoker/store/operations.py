"""Operations: rows and queries."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from stoker.domain.endpoint import ProjectId
from stoker.domain.operation import Cause, Operation, OperationId, OperationKind, OperationState
from stoker.store.tables import operations

# Made once: putting a statement together takes longer than running it.
_INSERT = insert(operations)
_UPDATE = update(operations).where(operations.c.id == bindparam("the_id"))


def _operation(row: Row[Any]) -> Operation:
    return Operation(
        id=row.id,
        number=row.number,
        kind=OperationKind(row.kind),
        endpoint=row.endpoint,
        state=OperationState(row.state),
        created_at=row.created_at,
        deadline_at=row.deadline_at,
        revision=row.revision,
        workers=row.workers,
        message=row.message,
        ended_at=row.ended_at,
        cause=None if row.cause is None else Cause(row.cause),
    )


def add(tx: Connection, operation: Operation, *, project: ProjectId) -> None:
    """Insert it."""
    tx.execute(
        _INSERT,
        {
            "id": operation.id,
            "number": operation.number,
            "kind": operation.kind.value,
            "endpoint": operation.endpoint,
            "project": project,
            "state": operation.state.value,
            "created_at": operation.created_at,
            "deadline_at": operation.deadline_at,
            "revision": operation.revision,
            "workers": operation.workers,
            "message": operation.message,
            "ended_at": operation.ended_at,
            "cause": operation.cause,
        },
    )


def save(tx: Connection, operation: Operation) -> None:
    """Write how it ended."""
    tx.execute(
        _UPDATE,
        {
            "the_id": operation.id,
            "state": operation.state.value,
            "message": operation.message,
            "ended_at": operation.ended_at,
            "cause": operation.cause,
        },
    )


def get(tx: Connection, operation: OperationId, *, project: ProjectId) -> Operation | None:
    """The project's operation of that id."""
    query = select(operations).where(operations.c.id == operation, operations.c.project == project)
    row = tx.execute(query).first()
    return None if row is None else _operation(row)


def pending(tx: Connection) -> tuple[Operation, ...]:
    """All that have not ended, oldest first."""
    query = select(operations).where(operations.c.state == OperationState.PENDING.value).order_by(operations.c.number)
    return tuple(_operation(row) for row in tx.execute(query))


def newest(tx: Connection, *, project: ProjectId, limit: int) -> tuple[Operation, ...]:
    """The project's last operations, newest first."""
    query = select(operations).where(operations.c.project == project).order_by(operations.c.number.desc()).limit(limit)
    return tuple(_operation(row) for row in tx.execute(query))

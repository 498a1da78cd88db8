"""What one step alters of one endpoint, and how all of it is written in one transaction. Used by `Fleet.commit`.

Whoever changes an endpoint puts a `Change` together; nothing here remembers anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from stoker.domain.endpoint import Endpoint
from stoker.domain.operation import Decision, Level, Operation
from stoker.domain.project import AuditDraft
from stoker.domain.worker import Worker, WorkerId
from stoker.store import audit as audit_rows
from stoker.store import installation, journal
from stoker.store import operations as operation_rows
from stoker.store import workers as worker_rows
from stoker.store.hot.base import EventRow


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDraft:
    """An event about to be recorded."""

    at: float
    kind: str
    message: str
    worker: WorkerId | None = None
    level: Level = Level.INFO


@dataclass(slots=True, kw_only=True)
class Change:
    """What one step alters of one endpoint: written in one transaction. New workers and operations get their numbers
    when they are written; those given here do not count. `revised`: the endpoint has a new revision, to be kept.
    `check` runs first and may refuse it all by raising.
    """

    endpoint: Endpoint
    revised: bool = False
    removed: bool = False
    workers: dict[WorkerId, Worker] = field(default_factory=dict)
    new_workers: list[Worker] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    new_operations: list[Operation] = field(default_factory=list)
    events: list[EventDraft] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    check: Callable[[Connection], None] | None = None
    audit: AuditDraft | None = None


def written(tx: Connection, change: Change) -> tuple[list[Worker], list[Operation]]:
    """Write all but the endpoint itself. The new workers and operations, with their numbers."""
    workers, operations = _numbered(tx, change)
    for worker in workers:
        worker_rows.add(tx, worker)
    for operation in operations:
        operation_rows.add(tx, operation, project=change.endpoint.project)
    worker_rows.save(tx, change.workers.values())
    for operation in change.operations:
        operation_rows.save(tx, operation)
    _write_journal(tx, change)
    if change.audit is not None:
        audit_rows.add(tx, change.audit)
    return workers, operations


def _numbered(tx: Connection, change: Change) -> tuple[list[Worker], list[Operation]]:
    workers, operations = change.new_workers, change.new_operations
    if workers:
        first = installation.next_number(tx, "worker", len(workers))
        workers = [replace(worker, number=first + index) for index, worker in enumerate(workers)]
    if operations:
        first = installation.next_number(tx, "operation", len(operations))
        operations = [replace(operation, number=first + index) for index, operation in enumerate(operations)]
    return workers, operations


def _write_journal(tx: Connection, change: Change) -> None:
    journal.add_events(
        tx,
        [EventRow(e.at, change.endpoint.id, e.worker, e.level.value, e.kind, e.message) for e in change.events],
    )
    for decision in change.decisions:
        journal.add_decision(tx, change.endpoint.id, decision)

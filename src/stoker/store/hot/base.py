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


class TaskRow(NamedTuple):
    """A new row of `tasks`; what is not here is as it is at the beginning."""

    id: str
    endpoint: str
    project: int
    rank: int
    created_at: float
    not_before: float
    expires_at: float | None
    method: str
    target: str
    headers: str
    content_type: str
    retries: str
    webhook: str | None
    execution_timeout_s: float
    retention_s: float
    retry_of: str | None
    port: int | None
    digest: str
    input_size: int
    input_file: str | None
    input: bytes | None


class Lease(NamedTuple):
    """What is leased of an endpoint: up to `limit` tasks, for the gateway `holder`."""

    endpoint: str
    now: float
    limit: int
    holder: str
    until: float


class EndRow(NamedTuple):
    """What an attempt of a task came to. It counts only as long as the task is leased as `lease`.

    `outcome` is `None` for what was no attempt: lost with its gateway.
    """

    number: int
    lease: str
    state: str
    not_before: float
    ended_at: float | None
    forget_at: float | None
    attempts: int
    status: int | None
    worker: str | None
    reason: str
    result_type: str | None
    result_size: int | None
    result_file: str | None
    result: bytes | None
    outcome: str | None
    began_at: float
    at: float


# What is read of a leased task.
LEASED = ("number", "id", "endpoint", "project", "state", "rank", "method", "target", "headers", "content_type",
          "input_size", "input_file", "input", "digest", "retries", "execution_timeout_s", "retention_s", "created_at",
          "not_before", "webhook", "expires_at", "started_at", "attempts", "deliveries", "lease", "holder",
          "lease_until", "cancelling", "retry_of", "port")  # fmt: skip


class Hot(Protocol):
    """What each file of a store has; `driver` is that store's own connection."""

    def add_events(self, driver: Any, rows: Sequence[EventRow]) -> None:
        """Insert events, numbered in this order."""

    def add_tasks(self, driver: Any, rows: Sequence[TaskRow]) -> list[int]: ...

    def lease_tasks(self, driver: Any, lease: Lease) -> list[tuple[Any, ...]]: ...

    def end_attempts(self, driver: Any, rows: Sequence[EndRow]) -> set[int]: ...

    def renew_leases(self, driver: Any, leases: Sequence[tuple[int, str]], until: float) -> set[int]: ...


@cache
def _of_dialect(dialect: str) -> Hot:
    # Imported on first use: each store's file needs its own driver's way of waiting.
    return import_module(f"stoker.store.hot.{dialect}").HOT  # type: ignore[no-any-return]


def add_events(tx: Connection, rows: Sequence[EventRow]) -> None:
    """Insert events, numbered in this order."""
    if rows:
        _of_dialect(tx.dialect.name).add_events(tx.connection.driver_connection, rows)


def add_tasks(tx: Connection, rows: Sequence[TaskRow]) -> list[int]:
    """Insert queued tasks. Their numbers, in the same order, which is the order of the numbers. Ids must be free."""
    return _of_dialect(tx.dialect.name).add_tasks(tx.connection.driver_connection, rows) if rows else []


def lease_tasks(tx: Connection, lease: Lease) -> list[tuple[Any, ...]]:
    """Start the first tasks of the endpoint that may go now: by priority, then by age. Rows of `LEASED`, in order."""
    rows = _of_dialect(tx.dialect.name).lease_tasks(tx.connection.driver_connection, lease)
    place = (LEASED.index("rank"), LEASED.index("number"))
    return sorted(rows, key=lambda row: (row[place[0]], row[place[1]]))


def end_attempts(tx: Connection, rows: Sequence[EndRow]) -> set[int]:
    """Record what attempts came to. The numbers of the tasks that it counted for; of others nothing is changed."""
    return _of_dialect(tx.dialect.name).end_attempts(tx.connection.driver_connection, rows) if rows else set()


def renew_leases(tx: Connection, leases: Sequence[tuple[int, str]], until: float) -> set[int]:
    """Hold on to tasks by number and lease. The numbers of those that are still held."""
    return (
        _of_dialect(tx.dialect.name).renew_leases(tx.connection.driver_connection, leases, until) if leases else set()
    )

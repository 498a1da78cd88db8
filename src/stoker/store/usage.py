"""Usage by hour: rows and queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, func, insert, or_, select, update

from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.usage import By, Hardware, RequestUsage, WorkerUsage
from stoker.store.tables import keys, usage_accrual, usage_endpoints, usage_marks, usage_requests, usage_workers
from stoker.store.upserts import upsert

_REQUESTS = ("requests", "errors", "metered", "prompt_tokens", "completion_tokens")
_WORKERS = ("started_s", "ready_s", "priced_s", "cost")


@dataclass(frozen=True, slots=True)
class RequestsOf:
    """What sums of requests are told apart by. `hour` is hours since the epoch; no key is ''."""

    hour: int
    project: ProjectId
    endpoint: EndpointId
    key: str


@dataclass(frozen=True, slots=True)
class WorkersOf:
    """What time of workers is told apart by."""

    hour: int
    project: ProjectId
    endpoint: EndpointId
    hardware: Hardware


@dataclass(frozen=True, slots=True)
class MarkOf:
    """One cumulative sum of one gateway."""

    incarnation: str
    endpoint: EndpointId
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is asked for: a project's hours from `first` and before `end`, of some `endpoints` only when not `None`."""

    project: ProjectId
    first: int
    end: int
    endpoints: frozenset[EndpointId] | None = None


# Writing


def add_requests(tx: Connection, sums: Mapping[RequestsOf, RequestUsage]) -> None:
    """Add these to what is recorded."""
    rows = [
        {
            "endpoint": of.endpoint,
            "hour": of.hour,
            "key": of.key,
            "project": of.project,
            **{name: getattr(usage, name) for name in _REQUESTS},
        }
        for of, usage in sums.items()
    ]
    upsert(tx, usage_requests, rows, added=_REQUESTS)


def add_workers(tx: Connection, sums: Mapping[WorkersOf, WorkerUsage], *, until: float) -> None:
    """Add these to what is recorded; the time of workers is counted until then."""
    rows = [
        {
            "endpoint": of.endpoint,
            "hour": of.hour,
            "pool": of.hardware.pool,
            "hardware": of.hardware.hardware,
            "project": of.project,
            **{name: getattr(usage, name) for name in _WORKERS},
        }
        for of, usage in sums.items()
    ]
    upsert(tx, usage_workers, rows, added=_WORKERS)
    if not tx.execute(update(usage_accrual).values(until=until)).rowcount:
        tx.execute(insert(usage_accrual).values(id=1, until=until))


def name_endpoints(tx: Connection, names: Mapping[EndpointId, str]) -> None:
    """Remember what these are called, for when they are gone."""
    rows = [{"endpoint": endpoint, "name": name} for endpoint, name in names.items()]
    upsert(tx, usage_endpoints, rows, replaced=("name",))


def save_marks(tx: Connection, marks: Mapping[MarkOf, RequestUsage], *, now: float) -> None:
    """Record how far these sums have been counted."""
    rows = [
        {
            "incarnation": of.incarnation,
            "endpoint": of.endpoint,
            "key": of.key,
            "at": now,
            **{name: getattr(usage, name) for name in _REQUESTS},
        }
        for of, usage in marks.items()
    ]
    upsert(tx, usage_marks, rows, replaced=(*_REQUESTS, "at"))


def trim(tx: Connection, *, before_hour: int, marks_before: float, incarnation: str | None) -> None:
    """Forget hours before that one, and marks of gateways other than this one that are older than that time."""
    for table in (usage_requests, usage_workers):
        tx.execute(delete(table).where(table.c.hour < before_hour))
    tx.execute(delete(usage_marks).where(usage_marks.c.at < marks_before, usage_marks.c.incarnation != incarnation))
    used = select(usage_requests.c.endpoint).union(select(usage_workers.c.endpoint))
    tx.execute(delete(usage_endpoints).where(usage_endpoints.c.endpoint.not_in(used)))


# Reading


def marks(tx: Connection) -> dict[MarkOf, RequestUsage]:
    """How far all sums have been counted."""
    rows = tx.execute(select(usage_marks))
    return {MarkOf(row.incarnation, row.endpoint, row.key): _requests(row) for row in rows}


def accrued_until(tx: Connection) -> float | None:
    """Until when the time of workers is counted; `None`: it never was."""
    found = tx.execute(select(usage_accrual.c.until)).scalar_one_or_none()
    return None if found is None else float(found)


def requests_by(tx: Connection, scope: Scope, by: By) -> dict[str, RequestUsage]:
    """Sums of requests by group."""
    column = usage_requests.c[by.value]
    sums = [func.sum(usage_requests.c[name]).label(name) for name in _REQUESTS]
    query = select(column.label("group"), *sums).where(*_within(usage_requests, scope)).group_by(column)
    return {str(row.group): _requests(row) for row in tx.execute(query)}


def workers_by(tx: Connection, scope: Scope, by: By) -> dict[str, dict[Hardware, WorkerUsage]]:
    """Time of workers by group and hardware. Raises `KeyError` for `By.KEY`, which workers do not have."""
    column = usage_workers.c[by.value]
    sums = [func.sum(usage_workers.c[name]).label(name) for name in _WORKERS]
    columns = (column.label("group"), usage_workers.c.pool, usage_workers.c.hardware)
    query = select(*columns, *sums).where(*_within(usage_workers, scope))
    found: dict[str, dict[Hardware, WorkerUsage]] = {}
    for row in tx.execute(query.group_by(column, usage_workers.c.pool, usage_workers.c.hardware)):
        usage = WorkerUsage(**{name: float(getattr(row, name)) for name in _WORKERS})
        found.setdefault(str(row.group), {})[Hardware(row.pool, row.hardware)] = usage
    return found


def names(tx: Connection, by: By, groups: Iterable[str]) -> dict[str, str]:
    """What people call these endpoints or keys, of those that are known."""
    wanted = list(groups)
    found: dict[str, str] = {}
    # In pieces: a statement has only so many parameters.
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        if by is By.ENDPOINT:
            query = select(usage_endpoints.c.endpoint.label("id"), usage_endpoints.c.name)
            rows = tx.execute(query.where(usage_endpoints.c.endpoint.in_(some)))
        else:
            rows = tx.execute(select(keys.c.id, keys.c.name).where(keys.c.id.in_(some)))
        found.update({row.id: row.name for row in rows})
    return found


def _within(table: Table, scope: Scope) -> list[Any]:
    where = [table.c.project == scope.project, table.c.hour >= scope.first, table.c.hour < scope.end]
    if scope.endpoints is not None:
        some = sorted(scope.endpoints)
        pieces = [some[start : start + 500] for start in range(0, len(some), 500)] or [[]]
        where.append(or_(*(table.c.endpoint.in_(piece) for piece in pieces)))
    return where


def _requests(row: Row[Any]) -> RequestUsage:
    return RequestUsage(**{name: int(getattr(row, name)) for name in _REQUESTS})

"""Tasks: rows and queries. What runs for every task, many at a time, is in `stoker.store.hot`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, func, insert, select, update

from stoker.domain.access import Sealed
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import FINAL, Attempt, Body, KeptKey, Outcome, Task, TaskNumber, TaskState, WebhookSpec
from stoker.store.hot import base as hot
from stoker.store.hot.base import LEASED, TaskRow
from stoker.store.tables import attempts, deliveries, pauses, task_keys, tasks

_headers = msgspec.json.Decoder(tuple[tuple[str, str], ...])
_retries = msgspec.json.Decoder(RetryPolicy)
_webhooks = msgspec.json.Decoder(WebhookSpec)
_SHOWN = [column for column in tasks.columns if column.name not in ("input", "result")]
_QUEUED, _RUNNING = TaskState.QUEUED.value, TaskState.RUNNING.value


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _body(size: int | None, file: str | None, inline: bytes | None = None) -> Body | None:
    return None if size is None else Body(size=size, file=file, inline=inline)


def _task(row: Mapping[str, Any]) -> Task:
    given = row.get
    body = _body(row["input_size"], row["input_file"], given("input"))
    assert body is not None
    return Task(
        number=TaskNumber(row["number"]),
        id=row["id"],
        endpoint=EndpointId(row["endpoint"]),
        project=ProjectId(row["project"]),
        state=TaskState(row["state"]),
        priority=-row["rank"],
        method=row["method"],
        target=row["target"],
        headers=_headers.decode(row["headers"]),
        content_type=row["content_type"],
        input=body,
        digest=row["digest"],
        retries=_retries.decode(row["retries"]),
        execution_timeout_s=row["execution_timeout_s"],
        retention_s=row["retention_s"],
        created_at=row["created_at"],
        not_before=row["not_before"],
        webhook=None if row["webhook"] is None else _webhooks.decode(row["webhook"]),
        expires_at=row["expires_at"],
        started_at=row["started_at"],
        ended_at=given("ended_at"),
        attempts=row["attempts"],
        deliveries=row["deliveries"],
        lease=row["lease"],
        holder=row["holder"],
        lease_until=row["lease_until"],
        cancelling=bool(row["cancelling"]),
        status=given("status"),
        worker=given("worker"),
        reason=given("reason") or "",
        result=_body(given("result_size"), given("result_file"), given("result")),
        result_type=given("result_type"),
        retry_of=row["retry_of"],
        port=row["port"],
    )


def _shown(row: Row[Any]) -> Task:
    return _task(row._asdict())


def row_of(task: Task) -> TaskRow:
    """The row that a new task is inserted as."""
    return TaskRow(
        id=task.id,
        endpoint=task.endpoint,
        project=task.project,
        rank=-task.priority,
        created_at=task.created_at,
        not_before=task.not_before,
        expires_at=task.expires_at,
        method=task.method,
        target=task.target,
        headers=_text(task.headers),
        content_type=task.content_type,
        retries=_text(task.retries),
        webhook=None if task.webhook is None else _text(task.webhook),
        execution_timeout_s=task.execution_timeout_s,
        retention_s=task.retention_s,
        retry_of=task.retry_of,
        port=task.port,
        digest=task.digest,
        input_size=task.input.size,
        input_file=task.input.file,
        input=task.input.inline,
    )


def add(tx: Connection, drafted: Sequence[Task]) -> list[int]:
    """Insert queued tasks; their numbers, in the same order. The caller has made sure that their ids are free."""
    return hot.add_tasks(tx, [row_of(task) for task in drafted])


def lease(tx: Connection, wanted: hot.Lease) -> list[Task]:
    """Start the endpoint's first tasks that may go now, inputs included."""
    return [_task(dict(zip(LEASED, row, strict=True))) for row in hot.lease_tasks(tx, wanted)]


def add_keys(tx: Connection, new: Sequence[KeptKey]) -> None:
    """Keep the keys that came with tasks."""
    rows = [{"id": k.id, "task": k.task, "sealed": k.sealed.text, "sealed_by": k.sealed.by} for k in new]
    if rows:
        tx.execute(insert(task_keys), rows)


def key(tx: Connection, id: str) -> KeptKey | None:
    """A key that came with a task."""
    row = tx.execute(select(task_keys).where(task_keys.c.id == id)).first()
    if row is None:
        return None
    return KeptKey(id=row.id, task=TaskNumber(row.task), sealed=Sealed(text=row.sealed, by=row.sealed_by))


def give_back(tx: Connection, leases: Sequence[tuple[int, str]], *, begun: bool = False) -> None:
    """No worker had them: as if they had never been leased. `begun`: but a gateway knows the leases, so that the next
    ones must have other ids.
    """
    first = and_(tasks.c.deliveries == 1, tasks.c.attempts == 0)
    for start in range(0, len(leases), 500):
        some = leases[start : start + 500]
        held = and_(
            tasks.c.number.in_([number for number, _ in some]),
            tasks.c.lease.in_([lease for _, lease in some]),
            tasks.c.state == _RUNNING,
        )
        values = {
            "state": _QUEUED,
            "deliveries": tasks.c.deliveries - (0 if begun else 1),
            "lease": None,
            "holder": None,
            "lease_until": None,
            "started_at": case((first, None), else_=tasks.c.started_at),
        }
        tx.execute(update(tasks).where(held).values(**values))


def find(tx: Connection, endpoint: EndpointId, id: str) -> Task | None:
    """The endpoint's task of that id, without its bodies."""
    row = tx.execute(select(*_SHOWN).where(tasks.c.endpoint == endpoint, tasks.c.id == id)).first()
    return None if row is None else _shown(row)


def known(tx: Connection, endpoint: EndpointId, ids: Sequence[str]) -> dict[str, Task]:
    """Those of these ids that the endpoint has, without their bodies."""
    query = select(*_SHOWN).where(tasks.c.endpoint == endpoint, tasks.c.id.in_(ids))
    return {row.id: _shown(row) for row in tx.execute(query)} if ids else {}


def whole(tx: Connection, number: TaskNumber) -> Task | None:
    """A task with its bodies, as far as the database has them."""
    row = tx.execute(select(tasks).where(tasks.c.number == number)).first()
    return None if row is None else _shown(row)


def page(tx: Connection, endpoint: EndpointId, *, state: TaskState | None, after: int, limit: int) -> tuple[Task, ...]:
    """Up to `limit` tasks with numbers above `after`, without their bodies."""
    query = select(*_SHOWN).where(tasks.c.endpoint == endpoint, tasks.c.number > after)
    if state is not None:
        query = query.where(tasks.c.state == state.value)
    return tuple(_shown(row) for row in tx.execute(query.order_by(tasks.c.number).limit(limit)))


def newest(
    tx: Connection, endpoint: EndpointId, states: Sequence[TaskState], *, skip: int, limit: int
) -> tuple[tuple[Task, ...], int]:
    """Up to `limit` tasks in one of these states (none said: in any), without their bodies, the newest first, after
    the first `skip`; and how many there are in all.
    """
    wanted = [tasks.c.endpoint == endpoint]
    if states:
        wanted.append(tasks.c.state.in_([state.value for state in states]))
    query = select(*_SHOWN).where(*wanted).order_by(tasks.c.number.desc()).offset(skip).limit(limit)
    total = tx.execute(select(func.count()).select_from(tasks).where(*wanted)).scalar_one()
    return tuple(_shown(row) for row in tx.execute(query)), int(total)


def attempts_of(tx: Connection, number: TaskNumber) -> tuple[Attempt, ...]:
    """Its attempts, first one first."""
    query = select(attempts).where(attempts.c.task == number).order_by(attempts.c.attempt)
    return tuple(
        Attempt(
            number=row.attempt,
            worker=row.worker,
            began_at=row.began_at,
            ended_at=row.ended_at,
            outcome=Outcome(row.outcome),
            status=row.status,
            reason=row.reason,
        )
        for row in tx.execute(query)
    )


def kept(tx: Connection) -> dict[tuple[str, TaskState], int]:
    """How many tasks of each endpoint are in each final state. Looks at all of them: for the start."""
    ended = tasks.c.state.in_([state.value for state in FINAL])
    query = select(tasks.c.endpoint, tasks.c.state, func.count()).where(ended).group_by(tasks.c.endpoint, tasks.c.state)
    return {(row[0], TaskState(row[1])): row[2] for row in tx.execute(query)}


def oldest_queued(tx: Connection, endpoint: EndpointId) -> float | None:
    """When the task came that has waited longest."""
    query = select(tasks.c.created_at).where(tasks.c.endpoint == endpoint, tasks.c.state == _QUEUED)
    return tx.execute(query.order_by(tasks.c.number).limit(1)).scalar_one_or_none()


def backlogs(tx: Connection, *, now: float) -> tuple[dict[str, int], list[tuple[int, str, float]]]:
    """How many tasks wait at each endpoint; and number, endpoint and time of those that may not go before that time."""
    queued = select(tasks.c.endpoint, func.count()).where(tasks.c.state == _QUEUED).group_by(tasks.c.endpoint)
    later = select(tasks.c.number, tasks.c.endpoint, tasks.c.not_before).where(
        tasks.c.state == _QUEUED, tasks.c.not_before > now
    )
    return {row[0]: row[1] for row in tx.execute(queued)}, [(r[0], r[1], r[2]) for r in tx.execute(later)]


def running(tx: Connection, endpoints: Iterable[EndpointId] | None = None) -> tuple[Task, ...]:
    """All that run (of these endpoints), without their bodies: their attempts are with gateways, or lost."""
    query = select(*_SHOWN).where(tasks.c.state == _RUNNING)
    if endpoints is not None:
        query = query.where(tasks.c.endpoint.in_(list(endpoints)))
    return tuple(_shown(row) for row in tx.execute(query))


def expired(tx: Connection, *, now: float, limit: int) -> tuple[Task, ...]:
    """Queued tasks that have not been started in time."""
    query = select(*_SHOWN).where(tasks.c.state == _QUEUED, tasks.c.expires_at <= now, tasks.c.started_at.is_(None))
    return tuple(_shown(row) for row in tx.execute(query.limit(limit)))


def cancelled_meanwhile(tx: Connection) -> tuple[Task, ...]:
    """Queued tasks that were to end while they ran. Reads all that are queued: for the start."""
    query = select(*_SHOWN).where(tasks.c.state == _QUEUED, tasks.c.cancelling)
    return tuple(_shown(row) for row in tx.execute(query))


def end_queued(tx: Connection, task: Task, state: TaskState, *, reason: str, now: float) -> bool:
    """A queued task takes its final state. False when it is not queued any more."""
    values = {"state": state.value, "reason": reason, "ended_at": now, "forget_at": now + task.retention_s}
    query = update(tasks).where(tasks.c.number == task.number, tasks.c.state == _QUEUED).values(**values)
    return tx.execute(query).rowcount == 1


def ask_to_cancel(tx: Connection, task: Task) -> bool:
    """A running task is to end. False when it does not run any more."""
    query = update(tasks).where(tasks.c.number == task.number, tasks.c.state == _RUNNING).values(cancelling=True)
    return tx.execute(query).rowcount == 1


def queued_of(tx: Connection, endpoint: EndpointId, *, limit: int) -> tuple[Task, ...]:
    """Some of the endpoint's queued tasks."""
    query = select(*_SHOWN).where(tasks.c.endpoint == endpoint, tasks.c.state == _QUEUED)
    return tuple(_shown(row) for row in tx.execute(query.limit(limit)))


def _old(now: float) -> ColumnElement[bool]:
    """Final, with their time over, and no webhook of theirs on its way."""
    pending = select(deliveries.c.task).where(deliveries.c.task == tasks.c.number, deliveries.c.state == "pending")
    return and_(tasks.c.forget_at <= now, tasks.c.state.in_([state.value for state in FINAL]), ~pending.exists())


def is_any_to_forget(tx: Connection, *, now: float) -> bool:
    """Is there anything for `forget`?"""
    return tx.scalar(select(tasks.c.number).where(_old(now)).limit(1)) is not None


def forget(tx: Connection, *, now: float, limit: int) -> tuple[list[str], Counter[tuple[str, TaskState]]]:
    """Forget up to `limit` final tasks whose time has passed, unless a webhook of theirs is on its way. Their files,
    and how many there were of each endpoint and state.
    """
    columns = (tasks.c.number, tasks.c.endpoint, tasks.c.state, tasks.c.input_file, tasks.c.result_file)
    old = select(*columns).where(_old(now)).limit(limit)
    rows = tx.execute(old).all()
    numbers = [row[0] for row in rows]
    of_task = (deliveries.c.task, attempts.c.task, task_keys.c.task, tasks.c.number)
    for table, column in ((column.table, column) for column in of_task):
        tx.execute(delete(table).where(column.in_(numbers)))
    files = [file for row in rows for file in row[3:] if file is not None]
    return files, Counter((row[1], TaskState(row[2])) for row in rows)


def files(tx: Connection) -> set[str]:
    """The files that tasks have in the spool."""
    found: set[str] = set()
    for column in (tasks.c.input_file, tasks.c.result_file):
        found.update(tx.scalars(select(column).where(column.is_not(None))))
    return found


def paused(tx: Connection) -> set[EndpointId]:
    """The endpoints whose queues are paused."""
    return {EndpointId(row) for row in tx.scalars(select(pauses.c.endpoint))}


def pause(tx: Connection, endpoint: EndpointId, *, now: float) -> None:
    """Let none of its tasks begin. The caller knows that it is not paused."""
    tx.execute(insert(pauses).values(endpoint=endpoint, at=now))


def resume(tx: Connection, endpoint: EndpointId) -> None:
    """Let them begin again."""
    tx.execute(delete(pauses).where(pauses.c.endpoint == endpoint))

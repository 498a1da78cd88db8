"""Webhooks to be sent: rows and queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.task import Delivery, DeliveryState, TaskNumber
from stoker.store.tables import deliveries

_PENDING = DeliveryState.PENDING.value


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        number=row.number,
        task=TaskNumber(row.task),
        task_id=row.task_id,
        endpoint=EndpointId(row.endpoint),
        project=ProjectId(row.project),
        event=row.event,
        url=row.url,
        secret=row.secret or None,
        key=row.key,
        form=row.form or "",
        payload=row.payload,
        created_at=row.created_at,
        next_at=row.next_at,
        state=DeliveryState(row.state),
        tries=row.tries,
        status=row.status,
        error=row.error,
        ended_at=row.ended_at,
    )


def add(tx: Connection, new: Sequence[Delivery]) -> None:
    """Insert them; the database gives them numbers."""
    rows = [
        {
            "id": delivery.id,
            "task": delivery.task,
            "task_id": delivery.task_id,
            "endpoint": delivery.endpoint,
            "project": delivery.project,
            "event": delivery.event,
            "url": delivery.url,
            "secret": delivery.secret or "",
            "key": delivery.key,
            "form": delivery.form,
            "payload": delivery.payload,
            "created_at": delivery.created_at,
            "next_at": delivery.next_at,
            "state": delivery.state.value,
            "tries": delivery.tries,
            "error": delivery.error,
        }
        for delivery in new
    ]
    if rows:
        tx.execute(insert(deliveries), rows)


def due(tx: Connection, *, now: float, without: Sequence[str], limit: int) -> tuple[Delivery, ...]:
    """Up to `limit` that are to be sent now, but for URLs that begin with one of `without`; the longest due first."""
    query = select(deliveries).where(deliveries.c.state == _PENDING, deliveries.c.next_at <= now)
    for origin in without:
        query = query.where(~deliveries.c.url.startswith(origin, autoescape=True))
    return tuple(_delivery(row) for row in tx.execute(query.order_by(deliveries.c.next_at).limit(limit)))


def next_at(tx: Connection) -> float | None:
    """When the next one is due."""
    query = select(deliveries.c.next_at).where(deliveries.c.state == _PENDING)
    return tx.execute(query.order_by(deliveries.c.next_at).limit(1)).scalar_one_or_none()


def save(tx: Connection, delivery: Delivery) -> None:
    """Write what a try came to, unless somebody has had it begin anew meanwhile."""
    values = {
        "state": delivery.state.value,
        "next_at": delivery.next_at,
        "tries": delivery.tries,
        "status": delivery.status,
        "error": delivery.error,
        "ended_at": delivery.ended_at,
    }
    same = (deliveries.c.id == delivery.id, deliveries.c.created_at == delivery.created_at)
    tx.execute(update(deliveries).where(*same).values(**values))


def find(tx: Connection, endpoint: EndpointId, id: str) -> Delivery | None:
    """The endpoint's delivery of that id."""
    row = tx.execute(select(deliveries).where(deliveries.c.endpoint == endpoint, deliveries.c.id == id)).first()
    return None if row is None else _delivery(row)


def page(tx: Connection, endpoint: EndpointId, *, after: int, limit: int) -> tuple[Delivery, ...]:
    """Up to `limit` of the endpoint with numbers above `after`."""
    query = select(deliveries).where(deliveries.c.endpoint == endpoint, deliveries.c.number > after)
    return tuple(_delivery(row) for row in tx.execute(query.order_by(deliveries.c.number).limit(limit)))


def of_task(tx: Connection, task: TaskNumber) -> tuple[Delivery, ...]:
    """Those of one task, first one first."""
    query = select(deliveries).where(deliveries.c.task == task).order_by(deliveries.c.number)
    return tuple(_delivery(row) for row in tx.execute(query))


def of_tasks(tx: Connection, of: Sequence[TaskNumber]) -> tuple[Delivery, ...]:
    """Those of these tasks, first one first."""
    query = select(deliveries).where(deliveries.c.task.in_(of)).order_by(deliveries.c.number)
    return tuple(_delivery(row) for row in tx.execute(query)) if of else ()


def renew(tx: Connection, delivery: Delivery) -> None:
    """Let it begin anew."""
    tx.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(created_at=delivery.created_at))
    save(tx, delivery)

"""The journal: events and scaling decisions. `stoker.store.retention` bounds each kind in number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Table, insert, select

from stoker.domain.endpoint import EndpointId
from stoker.domain.operation import Decision, Demand, Event, Level
from stoker.domain.worker import WorkerId
from stoker.store.hot import base as hot
from stoker.store.hot.base import EventRow
from stoker.store.tables import decisions, events

MESSAGE_CHARS_MAX = 8_192
# Made once: putting a statement together takes longer than running it.
_INSERT_DECISION = insert(decisions)


def _event(row: Row[Any]) -> Event:
    return Event(
        number=row.number,
        at=row.at,
        endpoint=row.endpoint,
        worker=row.worker,
        level=Level(row.level),
        kind=row.kind,
        message=row.message,
    )


def add_event(
    tx: Connection,
    *,
    at: float,
    kind: str,
    message: str,
    endpoint: EndpointId | None = None,
    worker: WorkerId | None = None,
    level: Level = Level.INFO,
) -> None:
    """Record an event; its message is cut at `MESSAGE_CHARS_MAX`."""
    tx.execute(
        insert(events).values(
            at=at,
            endpoint=endpoint,
            worker=worker,
            level=level.value,
            kind=kind,
            message=message[:MESSAGE_CHARS_MAX],
        )
    )


def add_events(tx: Connection, rows: Sequence[EventRow]) -> None:
    """Record many, in this order; messages are cut as by `add_event`."""
    hot.add_events(tx, [row._replace(message=row.message[:MESSAGE_CHARS_MAX]) for row in rows])


def events_after(tx: Connection, endpoint: EndpointId, *, after: int, limit: int) -> tuple[Event, ...]:
    """Up to `limit` events of the endpoint with a number above `after`, oldest first."""
    query = select(events).where(events.c.endpoint == endpoint, events.c.number > after)
    return tuple(_event(row) for row in tx.execute(query.order_by(events.c.number).limit(limit)))


def events_of_all(tx: Connection, *, after: int, limit: int) -> tuple[Event, ...]:
    """The same of all endpoints."""
    query = select(events).where(events.c.number > after)
    return tuple(_event(row) for row in tx.execute(query.order_by(events.c.number).limit(limit)))


def newest_events(tx: Connection, endpoint: EndpointId, *, limit: int) -> tuple[Event, ...]:
    """The endpoint's last `limit` events, oldest first."""
    query = select(events).where(events.c.endpoint == endpoint).order_by(events.c.number.desc()).limit(limit)
    return tuple(reversed([_event(row) for row in tx.execute(query)]))


_NOTHING = msgspec.Raw(b"null")


class _Explained(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is stored of a decision besides its columns."""

    ages: dict[str, float] = {}
    triggers: tuple[Demand, ...] = ()
    limits: tuple[str, ...] = ()
    advisory: bool = False
    given: msgspec.Raw = _NOTHING


_explained = msgspec.json.Decoder(_Explained)


def add_decision(tx: Connection, endpoint: EndpointId, decision: Decision) -> None:
    """Record a decision."""
    given = _NOTHING if decision.given is None else msgspec.Raw(decision.given)
    explained = _Explained(dict(decision.ages), decision.triggers, decision.limits, decision.advisory, given)
    tx.execute(
        _INSERT_DECISION,
        {
            "endpoint": endpoint,
            "at": decision.at,
            "current": decision.current,
            "workers": decision.workers,
            "reason": decision.reason,
            "inputs": msgspec.json.encode(decision.inputs).decode(),
            "explained": msgspec.json.encode(explained).decode(),
        },
    )


def newest_decisions(
    tx: Connection, endpoint: EndpointId, *, limit: int, until: float | None = None, before: int | None = None
) -> tuple[Decision, ...]:
    """The endpoint's last `limit` decisions, newest first; of those that were made up to `until`, if given, or that
    have numbers below `before`.
    """
    query = select(decisions).where(decisions.c.endpoint == endpoint)
    if before is not None:
        query = query.where(decisions.c.number < before)
    if until is not None:
        query = query.where(decisions.c.at <= until)
    return tuple(_decision(row) for row in tx.execute(query.order_by(decisions.c.number.desc()).limit(limit)))


def decisions_after(tx: Connection, endpoint: EndpointId, *, after: int, limit: int) -> tuple[Decision, ...]:
    """Up to `limit` decisions of the endpoint with a number above `after`, oldest first."""
    query = select(decisions).where(decisions.c.endpoint == endpoint, decisions.c.number > after)
    return tuple(_decision(row) for row in tx.execute(query.order_by(decisions.c.number).limit(limit)))


def decisions_of_all(tx: Connection, *, after: int, limit: int) -> tuple[tuple[EndpointId, Decision], ...]:
    """The same of all endpoints, each with its own."""
    query = select(decisions).where(decisions.c.number > after)
    rows = tx.execute(query.order_by(decisions.c.number).limit(limit))
    return tuple((row.endpoint, _decision(row)) for row in rows)


def newest_numbers(tx: Connection, table: Table, *, limit: int) -> tuple[tuple[int, EndpointId | None], ...]:
    """Of the last `limit` rows of `events` or `decisions` the numbers and endpoints, newest first."""
    query = select(table.c.number, table.c.endpoint).order_by(table.c.number.desc()).limit(limit)
    return tuple((row.number, row.endpoint) for row in tx.execute(query))


def _decision(row: Row[Any]) -> Decision:
    told = _Explained() if row.explained is None else _explained.decode(row.explained)
    given = bytes(told.given)
    return Decision(
        at=row.at,
        current=row.current,
        workers=row.workers,
        reason=row.reason,
        inputs=msgspec.json.decode(row.inputs),
        ages=told.ages,
        triggers=told.triggers,
        limits=told.limits,
        advisory=told.advisory,
        number=row.number,
        given=None if given == bytes(_NOTHING) else given,
    )

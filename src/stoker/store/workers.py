"""Workers: rows and queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, insert, or_, select, update

from stoker.domain.endpoint import EndpointId
from stoker.domain.hardware import Placement
from stoker.domain.worker import GONE, Address, Worker, WorkerId, WorkerState
from stoker.store.tables import workers

_placements = msgspec.json.Decoder(Placement)
_GONE = [state.value for state in GONE]


# Made once: putting a statement together takes longer than running it.
_INSERT = insert(workers)
_UPDATE = update(workers).where(workers.c.id == bindparam("the_id"))


def _worker(row: Row[Any]) -> Worker:
    return Worker(
        id=row.id,
        number=row.number,
        endpoint=row.endpoint,
        pool=row.pool,
        revision=row.revision,
        provider=row.provider,
        state=WorkerState(row.state),
        slots=row.slots,
        placement=None if row.placement is None else _placements.decode(row.placement),
        address=None if row.address_host is None else Address(host=row.address_host, port=row.address_port),
        created_at=row.created_at,
        started_at=row.started_at,
        acknowledged_at=row.acknowledged_at,
        ready_at=row.ready_at,
        drain_deadline=row.drain_deadline,
        chilling=bool(row.chilling),
        from_cold=bool(row.from_cold),
        unready=row.unready,
        ended_at=row.ended_at,
        released_at=row.released_at,
        reason=row.reason,
        exit_code=row.exit_code,
    )


def _values(worker: Worker) -> dict[str, Any]:
    return {
        "pool": worker.pool,
        "provider": worker.provider,
        "slots": worker.slots,
        "state": worker.state.value,
        "placement": None if worker.placement is None else msgspec.json.encode(worker.placement).decode(),
        "address_host": None if worker.address is None else worker.address.host,
        "address_port": None if worker.address is None else worker.address.port,
        "started_at": worker.started_at,
        "acknowledged_at": worker.acknowledged_at,
        "ready_at": worker.ready_at,
        "drain_deadline": worker.drain_deadline,
        "chilling": worker.chilling,
        "from_cold": worker.from_cold,
        "unready": worker.unready,
        "ended_at": worker.ended_at,
        "released_at": worker.released_at,
        "reason": worker.reason,
        "exit_code": worker.exit_code,
    }


def add(tx: Connection, worker: Worker) -> None:
    """Insert it."""
    tx.execute(
        _INSERT,
        {
            "id": worker.id,
            "number": worker.number,
            "endpoint": worker.endpoint,
            "revision": worker.revision,
            "created_at": worker.created_at,
            **_values(worker),
        },
    )


def save(tx: Connection, changed: Iterable[Worker]) -> None:
    """Write everything that may change of each."""
    for worker in changed:
        tx.execute(_UPDATE, {"the_id": worker.id, **_values(worker)})


def get(tx: Connection, worker: WorkerId) -> Worker | None:
    """The worker of that id."""
    row = tx.execute(select(workers).where(workers.c.id == worker)).first()
    return None if row is None else _worker(row)


def of_endpoint(tx: Connection, endpoint: EndpointId, *, limit: int) -> tuple[Worker, ...]:
    """The endpoint's newest `limit` workers, ended ones included, newest first."""
    query = select(workers).where(workers.c.endpoint == endpoint).order_by(workers.c.number.desc()).limit(limit)
    return tuple(_worker(row) for row in tx.execute(query))


def endpoints_of(tx: Connection, ids: Sequence[WorkerId]) -> dict[WorkerId, EndpointId]:
    """The endpoints of these workers, of those that are remembered."""
    found: dict[WorkerId, EndpointId] = {}
    # In pieces: a statement has only so many parameters.
    for start in range(0, len(ids), 500):
        query = select(workers.c.id, workers.c.endpoint).where(workers.c.id.in_(ids[start : start + 500]))
        found.update({row.id: row.endpoint for row in tx.execute(query)})
    return found


def held(tx: Connection, *, released_after: float) -> tuple[Worker, ...]:
    """All workers that still hold something: those not gone, and those whose port is still in quarantine."""
    query = select(workers).where(
        or_(
            workers.c.state.not_in(_GONE),
            workers.c.released_at.is_(None),
            workers.c.released_at > released_after,
        )
    )
    return tuple(_worker(row) for row in tx.execute(query.order_by(workers.c.number)))


def remove_of_endpoint(tx: Connection, endpoint: EndpointId) -> None:
    """Forget the ended and released workers of an endpoint that is being deleted."""
    tx.execute(
        delete(workers).where(
            workers.c.endpoint == endpoint, workers.c.state.in_(_GONE), workers.c.released_at.is_not(None)
        )
    )

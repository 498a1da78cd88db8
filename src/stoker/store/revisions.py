"""Revisions of endpoints: rows and queries."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select

from stoker.domain.endpoint import EndpointId, EndpointSpec, Revision
from stoker.domain.launch import Launch
from stoker.store.tables import revisions

_specs = msgspec.json.Decoder(EndpointSpec)
_launches = msgspec.json.Decoder(dict[str, Launch])


# Made once: putting a statement together takes longer than running it.
_INSERT = insert(revisions)


def _revision(row: Row[Any]) -> Revision:
    return Revision(
        endpoint=row.endpoint,
        number=row.number,
        spec=_specs.decode(row.spec),
        launches=_launches.decode(row.launches),
        created_at=row.created_at,
    )


def add(tx: Connection, revision: Revision) -> None:
    """Insert it."""
    tx.execute(
        _INSERT,
        {
            "endpoint": revision.endpoint,
            "number": revision.number,
            "spec": msgspec.json.encode(revision.spec).decode(),
            "launches": msgspec.json.encode(revision.launches).decode(),
            "created_at": revision.created_at,
        },
    )


def get(tx: Connection, endpoint: EndpointId, number: int) -> Revision | None:
    """The endpoint's revision of that number, as long as it is kept."""
    query = select(revisions).where(revisions.c.endpoint == endpoint, revisions.c.number == number)
    row = tx.execute(query).first()
    return None if row is None else _revision(row)


def of_endpoint(tx: Connection, endpoint: EndpointId) -> tuple[Revision, ...]:
    """All that are kept, newest first."""
    query = select(revisions).where(revisions.c.endpoint == endpoint).order_by(revisions.c.number.desc())
    return tuple(_revision(row) for row in tx.execute(query))


def prune(tx: Connection, endpoint: EndpointId, *, before: int, keep: Collection[int]) -> None:
    """Forget those with numbers below `before`, but for `keep`."""
    tx.execute(
        delete(revisions).where(
            revisions.c.endpoint == endpoint, revisions.c.number < before, revisions.c.number.not_in(list(keep))
        )
    )


def remove_of_endpoint(tx: Connection, endpoint: EndpointId) -> None:
    """Forget all of them."""
    tx.execute(delete(revisions).where(revisions.c.endpoint == endpoint))

"""What is learned of launches: rows and queries."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from stoker.domain.learned import Kind, Learned, Place, Samples
from stoker.store.tables import learned

_values = msgspec.json.Decoder(tuple[float, ...])


def save(tx: Connection, changed: Iterable[Learned], *, now: float) -> None:
    """Record these, in place of what was known before."""
    for item in changed:
        where = {
            "launch": item.place.launch,
            "provider": item.place.provider,
            "host": item.place.host,
            "kind": item.kind.value,
        }
        values = {
            "count": item.samples.count,
            "samples": msgspec.json.encode(item.samples.values).decode(),
            "updated_at": now,
        }
        matches = [learned.c[name] == value for name, value in where.items()]
        if not tx.execute(update(learned).where(*matches).values(values)).rowcount:
            tx.execute(insert(learned).values({**where, **values}))


def everything(tx: Connection, *, limit: int) -> tuple[Learned, ...]:
    """All that is known, of the `limit` that changed last."""
    query = select(learned).order_by(learned.c.updated_at.desc()).limit(limit)
    return tuple(
        Learned(
            Place(row["launch"], row["provider"], row["host"]),
            Kind(row["kind"]),
            # Not as an attribute, which would be the method that every tuple has.
            Samples(_values.decode(row["samples"]), row["count"], row["updated_at"]),
        )
        for row in tx.execute(query).mappings()
    )


def trim(tx: Connection, *, before: float) -> None:
    """Forget what has not changed since then."""
    tx.execute(delete(learned).where(learned.c.updated_at < before))

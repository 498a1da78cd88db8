"""What `auto` has learned of endpoints, a row for each: queries. The text is control's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection as Connection
from sqlalchemy import delete, insert, select, update

from stoker.domain.endpoint import EndpointId
from stoker.store.tables import experiences


def save(tx: Connection, texts: Mapping[EndpointId, str], *, now: float) -> None:
    """Record these, in place of what was there of them."""
    for endpoint, text in texts.items():
        values = {"experience": text, "updated_at": now}
        if not tx.execute(update(experiences).where(experiences.c.endpoint == endpoint).values(values)).rowcount:
            tx.execute(insert(experiences).values(endpoint=endpoint, **values))


def everything(tx: Connection) -> tuple[tuple[EndpointId, str], ...]:
    """All of them."""
    query = select(experiences.c.endpoint, experiences.c.experience)
    return tuple((EndpointId(endpoint), text) for endpoint, text in tx.execute(query))


def remove(tx: Connection, gone: Iterable[EndpointId]) -> None:
    """Forget these."""
    for endpoint in gone:
        tx.execute(delete(experiences).where(experiences.c.endpoint == endpoint))

"""What `auto` has learned of endpoints, a row for each: queries. The text is control's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, delete, select

from stoker.domain.endpoint import EndpointId
from stoker.store.tables import experiences
from stoker.store.upserts import upsert


def save(tx: Connection, texts: Mapping[EndpointId, str], *, now: float) -> None:
    """Record these, in place of what was there of them."""
    rows = [{"endpoint": endpoint, "experience": text, "updated_at": now} for endpoint, text in texts.items()]
    upsert(tx, experiences, rows, replaced=("experience", "updated_at"))


def everything(tx: Connection) -> tuple[tuple[EndpointId, str], ...]:
    """All of them."""
    query = select(experiences.c.endpoint, experiences.c.experience)
    return tuple((EndpointId(endpoint), text) for endpoint, text in tx.execute(query))


def remove(tx: Connection, gone: Iterable[EndpointId]) -> None:
    """Forget these."""
    for endpoint in gone:
        tx.execute(delete(experiences).where(experiences.c.endpoint == endpoint))

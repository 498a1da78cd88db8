"""Hot statements of PostgreSQL: all rows as columns of arrays, so that one round trip carries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.util import await_only

from stoker.store.hot.base import EventRow

# ORDINALITY: numbers follow the order of the rows.
_ADD_EVENTS = """
INSERT INTO events (at, endpoint, worker, level, kind, message)
SELECT at, endpoint, worker, level, kind, message
FROM unnest($1::float8[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
  WITH ORDINALITY AS t (at, endpoint, worker, level, kind, message, place)
ORDER BY place
"""


class _Postgresql:
    def add_events(self, driver: Any, rows: Sequence[EventRow]) -> None:
        # The session's own conversion of texts does not reach into arrays; a message is what others have printed.
        rows = [row._replace(message=row.message.replace("\0", "\ufffd")) for row in rows]
        # Commands run on SQLAlchemy's greenlet, from where the driver can be waited for.
        await_only(driver.execute(_ADD_EVENTS, *zip(*rows, strict=True)))


HOT = _Postgresql()

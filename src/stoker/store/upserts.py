"""Rows that are made or changed by their primary key, many in one statement, in the words of either database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(
    tx: Connection,
    table: Table,
    rows: Sequence[Mapping[str, object]],
    *,
    replaced: Sequence[str] = (),
    added: Sequence[str] = (),
) -> None:
    """Insert whole `rows`; of those whose primary key is there, the columns `replaced` take the new value and those
    `added` grow by it.
    """
    if not rows:
        return
    new = postgresql.insert(table) if tx.dialect.name == "postgresql" else sqlite.insert(table)
    changed: dict[str, ColumnElement[Any]] = {name: new.excluded[name] for name in replaced}
    changed |= {name: table.c[name] + new.excluded[name] for name in added}
    tx.execute(new.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed), rows)

"""Migrations: they make exactly the tables that queries expect, on every store, and keep what was there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, Connection, Integer, MetaData, Table, inspect, text

from stoker.domain.errors import Unsupported
from stoker.store import schema
from stoker.store.base import Store
from stoker.store.tables import metadata
from store.places import Place

FIRST = "0001"


def _version(tx: Connection) -> object:
    return tx.execute(text("SELECT version_num FROM alembic_version")).scalar_one()


def _empty(tx: Connection) -> None:
    reflected = MetaData()
    reflected.reflect(tx)
    reflected.drop_all(tx)


def _made(tx: Connection) -> dict[str, object]:
    """All there is to tell apart of tables: columns in whatever order, keys, and indexes."""
    looked = inspect(tx)
    return {
        table: (
            sorted((c["name"], str(c["type"]), c["nullable"], str(c["default"])) for c in looked.get_columns(table)),
            looked.get_pk_constraint(table)["constrained_columns"],
            sorted(each["column_names"] for each in looked.get_unique_constraints(table)),
            sorted(_index(each) for each in looked.get_indexes(table) if "duplicates_constraint" not in each),
            sorted(each["constrained_columns"] for each in looked.get_foreign_keys(table)),
        )
        for table in looked.get_table_names()
    }


def _content(tx: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """What is in the tables, but for the first project, which is added at each start when it is missing."""
    reflected = MetaData()
    reflected.reflect(tx)
    tables = [table for table in reflected.sorted_tables if table.name != "projects"]
    return {table.name: [tuple(row) for row in tx.execute(table.select())] for table in tables}


def _index(found: Mapping[str, Any]) -> str:
    where = {name: str(value) for name, value in found.get("dialect_options", {}).items()}
    return f"{found['name']} {found['column_names']} {bool(found['unique'])} {where}"


def test_migrations_make_exactly_the_tables_that_queries_expect(place: Place) -> None:
    async def body(store: Store) -> None:
        def compare(tx: Connection) -> object:
            context = MigrationContext.configure(tx, opts={"compare_type": True, "compare_server_default": True})
            return compare_metadata(context, metadata)

        def migrate(tx: Connection) -> None:
            _empty(tx)
            schema.upgrade(tx, to=FIRST)
            schema.upgrade(tx)

        assert await store.write(compare) == [], "as a first start makes them"
        assert await store.read(_version) == schema.HEAD
        at_once, rows = await store.read(_made), await store.read(_content)
        await store.write(migrate)
        assert await store.write(compare) == []
        assert await store.read(_version) == schema.HEAD
        assert await store.read(_made) == at_once
        assert await store.read(_content) == rows

    place.run(body)


def test_numbers_have_64_bits() -> None:
    for table in metadata.tables.values():
        for column in table.columns:
            if column.name == "number":
                assert isinstance(column.type, BigInteger), f"{table.name}.{column.name}: use tables.Number"


# What a migration reads of a text, in the first version.
_TEXTS = {"spec": '{"name": "e", "pools": [{"name": "default"}], "probe": null}', "launch": "{}"}


def _rows(first: Table) -> list[dict[str, object]]:
    """Two rows for any table: values by the types that its columns have."""
    rows = []
    for index in (1, 2):
        row: dict[str, object] = {}
        for column in first.columns:
            if isinstance(column.type, Integer | BigInteger):
                row[column.name] = 1 if column.foreign_keys else index
            elif column.type.python_type is float:
                row[column.name] = index + 0.5
            else:
                row[column.name] = _TEXTS.get(column.name, f"{column.name[:8]}{index}")
        rows.append(row)
    return rows


def test_an_upgrade_from_the_first_version_keeps_what_was_there(place: Place) -> None:
    """The old schema is made in place of the new one, filled, and opened as a user's would be."""

    async def old(store: Store) -> None:
        await store.write(_make_first)

    def _make_first(tx: Connection) -> None:
        _empty(tx)
        schema.upgrade(tx, to=FIRST)
        first = MetaData()
        first.reflect(tx)
        for table in first.sorted_tables:
            if table.name == "alembic_version":
                continue
            tx.execute(table.insert(), _rows(table))

    async def upgraded(store: Store) -> None:
        assert await store.read(_version) == schema.HEAD
        for name in ("projects", "endpoints", "workers", "operations", "events", "decisions", "keys"):
            rows = await store.read(lambda tx, n=name: tx.execute(text(f"SELECT count(*) FROM {n}")).scalar_one())  # type: ignore[misc]
            assert rows == 2, name
        value = await store.read(
            lambda tx: (
                tx.execute(text("SELECT value FROM counters WHERE kind <> 'project' ORDER BY kind")).scalars().all()
            )
        )
        assert value == [1, 2]

    place.run(old)
    place.run(upgraded)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(place: Place) -> None:
    async def spoil(store: Store) -> None:
        await store.write(lambda tx: tx.execute(text("UPDATE alembic_version SET version_num = '9999'")))

    async def reopen() -> None:
        with pytest.raises(Unsupported, match="9999"):
            await place.open()

    place.run(spoil)
    asyncio.run(reopen())
    asyncio.run(reopen())

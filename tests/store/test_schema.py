"""Migrations: they make exactly the tables that queries expect, on every store, and keep what was there."""

from __future__ import annotations

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, Connection, Integer, MetaData, Table, text

from stoker.domain.errors import Unsupported
from stoker.store import schema
from stoker.store.base import Store
from stoker.store.tables import metadata
from store.places import Place

FIRST = "0001"


def _version(tx: Connection) -> object:
    return tx.execute(text("SELECT version_num FROM alembic_version")).scalar_one()


def test_migrations_make_exactly_the_tables_that_queries_expect(place: Place) -> None:
    async def body(store: Store) -> None:
        def compare(tx: Connection) -> object:
            context = MigrationContext.configure(tx, opts={"compare_type": True, "compare_server_default": True})
            return compare_metadata(context, metadata)

        assert await store.write(compare) == []
        assert await store.read(_version) == schema.HEAD

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
        reflected = MetaData()
        reflected.reflect(tx)
        reflected.drop_all(tx)
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

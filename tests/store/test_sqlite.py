"""The SQLite store: durable when answered, one command's failure is its own, readers see what was answered."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, select, text

from stoker.domain.access import KeyLimits
from stoker.domain.errors import Unavailable, Unsupported
from stoker.store import installation, keys, projects, schema, sqlite
from stoker.store.sqlite import InlineSqliteStore, SqliteStore
from stoker.store.tables import counters, metadata


def run(tmp_path: Path, body: Callable[[SqliteStore], Awaitable[None]]) -> None:
    async def main() -> None:
        store = sqlite.open_file(tmp_path / "stoker.db")
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(main())


def count(tx: Connection) -> int:
    return tx.execute(select(counters.c.value).where(counters.c.kind == "x")).scalar_one_or_none() or 0


def test_a_write_is_seen_by_every_later_read_and_by_the_next_opening(tmp_path: Path) -> None:
    async def first(store: SqliteStore) -> None:
        for expected in (1, 2, 3):
            assert await store.write(lambda tx: installation.next_number(tx, "x")) == expected
            assert await store.read(count) == expected

    async def second(store: SqliteStore) -> None:
        assert await store.read(count) == 3

    run(tmp_path, first)
    run(tmp_path, second)


def test_a_command_that_fails_undoes_its_own_changes_and_no_others(tmp_path: Path) -> None:
    def fails(tx: Connection) -> None:
        installation.next_number(tx, "x")
        raise ValueError("no")

    async def body(store: SqliteStore) -> None:
        results = await asyncio.gather(
            *(store.write(lambda tx: installation.next_number(tx, "x")) for _ in range(10)),
            store.write(fails),
            *(store.write(lambda tx: installation.next_number(tx, "x")) for _ in range(10)),
            return_exceptions=True,
        )
        assert isinstance(results[10], ValueError)
        assert sorted(r for r in results if isinstance(r, int)) == list(range(1, 21))
        assert await store.read(count) == 20

    run(tmp_path, body)


def test_many_writers_share_few_commits(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        numbers = await asyncio.gather(*(store.write(lambda tx: installation.next_number(tx, "x")) for _ in range(500)))
        assert sorted(numbers) == list(range(1, 501))

    run(tmp_path, body)


def test_a_write_waits_for_another_program_that_holds_the_database(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        other = sqlite3.connect(tmp_path / "stoker.db", isolation_level=None, timeout=0)
        other.execute("BEGIN IMMEDIATE")
        try:
            write = asyncio.create_task(store.write(lambda tx: installation.next_number(tx, "x")))
            await asyncio.sleep(0)
            assert not write.done()
        finally:
            other.execute("ROLLBACK")
            other.close()
        assert await write == 1

    run(tmp_path, body)


def test_a_closed_store_takes_no_more_writes(tmp_path: Path) -> None:
    async def main() -> None:
        store = sqlite.open_file(tmp_path / "stoker.db")
        pending = [asyncio.create_task(store.write(lambda tx: installation.next_number(tx, "x"))) for _ in range(5)]
        await asyncio.sleep(0)
        await store.close()
        assert [await task for task in pending] == [1, 2, 3, 4, 5], "what was accepted is finished"
        with pytest.raises(Unavailable):
            await store.write(count)

    asyncio.run(main())


def test_the_database_is_private_and_synchronous(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        assert (tmp_path / "stoker.db").stat().st_mode & 0o777 == 0o600
        assert await store.write(lambda tx: tx.execute(text("PRAGMA synchronous")).scalar_one()) == 2
        assert await store.write(lambda tx: tx.execute(text("PRAGMA journal_mode")).scalar_one()) == "wal"

    run(tmp_path, body)


def test_migrations_make_exactly_the_tables_that_queries_expect(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        differences = await store.write(lambda tx: compare_metadata(MigrationContext.configure(tx), metadata))
        assert differences == []
        version = await store.read(lambda tx: tx.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
        assert version == schema.HEAD

    run(tmp_path, body)


def test_a_database_from_before_tenancy_keeps_its_keys_and_gives_its_project_an_id(tmp_path: Path) -> None:
    path = tmp_path / "stoker.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "stoker:store/migrations")
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.execute(text("INSERT INTO projects VALUES (1, 'default', 5.0)"))
        connection.execute(
            text(
                "INSERT INTO keys (id, number, project, name, digest, hint, scopes, created_at)"
                " VALUES ('k', 1, 1, 'old', 'd', 'sk-', '[\"admin\"]', 5.0)"
            )
        )
    engine.dispose()

    async def body(store: SqliteStore) -> None:
        [project] = await store.read(projects.everything)
        assert (project.number, project.name, project.id) == (1, "default", installation.DEFAULT_PROJECT_ID)
        [key] = await store.read(lambda tx: keys.usable(tx, now=9.0))
        assert (key.digest, key.installation, key.limits, key.sealed) == ("d", False, KeyLimits(), None)
        assert key.last_used_at is None
        assert await store.write(lambda tx: installation.next_number(tx, "project")) == 2

    run(tmp_path, body)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    async def spoil(store: SqliteStore) -> None:
        await store.write(lambda tx: tx.execute(text("UPDATE alembic_version SET version_num = '9999'")))

    run(tmp_path, spoil)
    with pytest.raises(Unsupported, match="9999"):
        sqlite.open_file(tmp_path / "stoker.db")


def test_the_inline_store_runs_the_same_queries() -> None:
    async def main() -> None:
        store = InlineSqliteStore()
        assert await store.write(lambda tx: installation.next_number(tx, "x")) == 1
        with pytest.raises(ValueError, match="no"):
            await store.write(lambda tx: _raise())
        assert await store.read(count) == 1
        await store.close()

    asyncio.run(main())


def _raise() -> None:
    raise ValueError("no")

"""What is SQLite's own; what every store promises is in test_contract.py."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, select, text

from stoker.domain.access import KeyLimits
from stoker.domain.errors import Invalid, Unavailable
from stoker.store import installation, keys, projects, sqlite
from stoker.store.sqlite import InlineSqliteStore, SqliteStore
from stoker.store.tables import counters


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


def test_the_database_is_private_and_synchronous(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        assert (tmp_path / "stoker.db").stat().st_mode & 0o777 == 0o600
        assert await store.write(lambda tx: tx.execute(text("PRAGMA synchronous")).scalar_one()) == 2
        assert await store.write(lambda tx: tx.execute(text("PRAGMA journal_mode")).scalar_one()) == "wal"

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


@pytest.mark.parametrize("kind", ["another kind of file", "a damaged one"])
def test_a_file_that_is_no_whole_database_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "stoker.db"
    if kind == "a damaged one":
        asyncio.run(sqlite.open_file(path).close())
        # Behind the header: every page.
        path.write_bytes(path.read_bytes()[:100] + b"\xff" * (path.stat().st_size - 100))
    else:
        path.write_text("no database at all\n" * 1000)
    before = path.read_bytes()
    with pytest.raises(Invalid, match="stoker restore"):
        sqlite.open_file(path)
    with pytest.raises(Invalid, match="stoker restore"):
        sqlite.snapshot(path, lambda tx: tx.execute(text("SELECT count(*) FROM projects")).scalar_one())
    assert path.read_bytes() == before


@pytest.mark.parametrize("together", [1, 3])
def test_a_write_that_finds_no_room_is_told_so_and_the_next_one_goes_on(tmp_path: Path, together: int) -> None:
    async def body(store: SqliteStore) -> None:
        pages = await store.write(lambda tx: tx.execute(text("PRAGMA page_count")).scalar_one())
        await store.write(lambda tx: tx.execute(text(f"PRAGMA max_page_count = {pages}")).scalar_one())
        big = text("INSERT INTO counters (kind, value) VALUES (hex(zeroblob(100000)), 1)")
        ended = await asyncio.gather(
            *[store.write(lambda tx: tx.execute(big)) for _ in range(together)], return_exceptions=True
        )
        assert [type(each) for each in ended] == [Unavailable] * together
        assert "full" in str(ended[0])
        await store.write(lambda tx: tx.execute(text("PRAGMA max_page_count = 100000")).scalar_one())
        assert await store.write(lambda tx: installation.next_number(tx, "x")) == 1

    run(tmp_path, body)

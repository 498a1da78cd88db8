"""What is PostgreSQL's own: the lock, sessions that end, a server that comes back, and what is never said."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

import postgres
from stoker.domain.errors import Conflict, Invalid, StokerError, Unavailable, Unsupported
from stoker.store import installation
from stoker.store.postgres import READERS, PostgresStore
from stoker.store.postgres_opening import open_database
from stoker.store.postgres_sessions import shown

WAIT_S = 30.0


@pytest.fixture
def own_server() -> Iterator[postgres.Server]:
    """A server that a test may stop and kill."""
    try:
        with postgres.server() as server:
            yield server
    except postgres.NoPostgres as exc:
        if os.environ.get("CI"):
            pytest.fail(str(exc))
        pytest.skip(str(exc))


@asynccontextmanager
async def opened(
    url: str, folder: Path = Path("/a"), *, statement_timeout_s: float = 30.0
) -> AsyncIterator[PostgresStore]:
    store = await open_database(
        url, data_dir=folder, wait_s=WAIT_S, own_lock_wait_s=WAIT_S, statement_timeout_s=statement_timeout_s
    )
    try:
        yield store
    finally:
        await store.close()


def number(tx: Connection) -> int:
    return installation.next_number(tx, "x")


def test_a_second_stoker_is_refused_and_told_who_has_the_database(postgres_server: postgres.Server) -> None:
    url = postgres_server.database()

    async def main() -> None:
        async with opened(url):
            with pytest.raises(Conflict, match=r"in use by another Stoker \(stoker on") as refused:
                await open_database(url, data_dir=Path("/b"))
            assert postgres.PASSWORD not in str(refused.value)
        async with opened(url, Path("/b")) as store:
            assert await store.write(number) == 1

    asyncio.run(main())


def test_the_successor_on_the_same_folder_waits_for_its_predecessor(postgres_server: postgres.Server) -> None:
    url = postgres_server.database()
    said: list[str] = []

    async def main() -> None:
        told = asyncio.Event()

        def waiting(why: str) -> None:
            said.append(why)
            told.set()

        first = await open_database(url, data_dir=Path("/a"))
        second = asyncio.create_task(open_database(url, data_dir=Path("/a"), waiting=waiting, own_lock_wait_s=WAIT_S))
        await asyncio.wait_for(told.wait(), WAIT_S)
        assert "waiting for the lock" in said[0]
        await first.close()
        await (await second).close()

    asyncio.run(main())


def test_two_databases_of_one_server_do_not_mind_each_other(postgres_server: postgres.Server) -> None:
    async def main() -> None:
        async with opened(postgres_server.database()) as one, opened(postgres_server.database(), Path("/b")) as two:
            assert [await one.write(number), await two.write(number)] == [1, 1]

    asyncio.run(main())


def test_a_cut_session_of_the_writer_ends_the_store_and_its_lock(postgres_server: postgres.Server) -> None:
    url = postgres_server.database()
    cut = text(
        "SELECT pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'advisory' AND a.datname = current_database()"
    )

    async def main() -> None:
        async with opened(url) as store:
            assert await store.write(number) == 1
            await store.read(lambda tx: tx.execute(cut).all())
            with pytest.raises(Unavailable, match="lost"):
                await asyncio.wait_for(store.lasts(), WAIT_S)
            with pytest.raises(Unavailable, match="lost"):
                await store.write(number)
            async with opened(url, Path("/b")) as successor:
                assert await successor.write(number) == 2

    asyncio.run(main())


def test_a_server_that_is_killed_comes_back_with_what_was_answered(own_server: postgres.Server) -> None:
    url = own_server.database()

    async def write_until_lost(store: PostgresStore) -> int:
        last = 0
        while True:
            try:
                last = await store.write(number)
            except Unavailable:
                return last

    async def main() -> None:
        said: list[str] = []
        told = asyncio.Event()

        def waiting(why: str) -> None:
            said.append(why)
            told.set()

        async with opened(url) as store:
            writing = asyncio.create_task(write_until_lost(store))
            while await store.read(lambda tx: installation.peek_number(tx, "x")) < 20:
                pass
            await asyncio.to_thread(own_server.stop, signal.SIGQUIT)
            answered = await asyncio.wait_for(writing, WAIT_S)
            with pytest.raises(Unavailable):
                await asyncio.wait_for(store.lasts(), WAIT_S)
            with pytest.raises(Unavailable):
                await store.read(lambda tx: installation.peek_number(tx, "x"))
        opening = asyncio.create_task(open_database(url, data_dir=Path("/a"), waiting=waiting))
        await asyncio.wait_for(told.wait(), WAIT_S)
        assert said[0].startswith("waiting for the database postgresql://stoker@127.0.0.1")
        await asyncio.to_thread(own_server.start)
        store = await opening
        # The one that was cut may be there or not; none that was answered is missing.
        assert await store.write(number) in (answered + 1, answered + 2)
        await store.close()

    asyncio.run(main())


def test_waiting_for_a_server_has_an_end_and_names_no_password(own_server: postgres.Server) -> None:
    url = own_server.database()
    own_server.stop()

    async def main() -> None:
        said: list[str] = []
        began = time.monotonic()
        with pytest.raises(Unavailable) as failed:
            await open_database(url, data_dir=Path("/a"), wait_s=0.5, waiting=said.append)
        assert time.monotonic() - began < WAIT_S
        assert postgres.PASSWORD not in f"{failed.value!r} {said}"
        assert failed.value.__cause__ is None

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"password": "wrong%2Fsecret"}, "password authentication failed", id="a wrong password"),
        pytest.param({"user": "nobody"}, "nobody", id="a user that is not there"),
        pytest.param({"database": "nowhere"}, "nowhere", id="a database that is not there"),
    ],
)
def test_what_waiting_does_not_mend_is_said_at_once(
    postgres_server: postgres.Server, change: dict[str, str], said: str
) -> None:
    url = postgres_server.url(**{"database": "postgres", **change})
    with pytest.raises(Invalid, match=said) as refused:
        asyncio.run(open_database(url, data_dir=Path("/a")))
    for secret in ("wrong/secret", "wrong%2Fsecret", postgres.PASSWORD):
        assert secret not in str(refused.value)


def test_a_database_in_another_encoding_is_refused(postgres_server: postgres.Server) -> None:
    with pytest.raises(Unsupported, match="SQL_ASCII"):
        asyncio.run(open_database(postgres_server.database(encoding="SQL_ASCII"), data_dir=Path("/a")))


def test_a_statement_that_takes_too_long_fails_alone(postgres_server: postgres.Server) -> None:
    sleep = text("SELECT pg_sleep(30)")

    async def main() -> None:
        async with opened(postgres_server.database(), statement_timeout_s=1.0) as store:
            slow = store.write(lambda tx: tx.execute(sleep).all())
            results = await asyncio.gather(store.write(number), slow, store.write(number), return_exceptions=True)
            assert (results[0], results[2]) == (1, 2)
            assert isinstance(results[1], Unavailable)
            with pytest.raises(Unavailable, match="in time"):
                await store.read(lambda tx: tx.execute(sleep).all())
            assert await store.write(number) == 3

    asyncio.run(main())


def test_reading_uses_few_sessions_and_cannot_write(postgres_server: postgres.Server) -> None:
    def sessions(tx: Connection) -> int:
        return int(
            tx.execute(text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")).scalar_one()
        )

    async def main() -> None:
        async with opened(postgres_server.database()) as store:
            await asyncio.gather(
                *(store.read(lambda tx: tx.execute(text("SELECT pg_sleep(0.02)")).all()) for _ in range(30))
            )
            assert await store.read(sessions) <= READERS + 1
            with pytest.raises(Exception, match="read-only"):
                await store.read(number)

    asyncio.run(main())


def test_an_answered_write_is_on_disk_whatever_the_server_s_default(postgres_server: postgres.Server) -> None:
    url = postgres_server.database()
    name = url.rpartition("/")[2]
    postgres_server.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")

    async def main() -> None:
        async with opened(url) as store:
            assert await store.write(lambda tx: tx.execute(text("SHOW synchronous_commit")).scalar_one()) == "on"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("postgresql://u:p%40ss@h:1/d?sslmode=require", "postgresql://u@h:1/d", id="all"),
        pytest.param("postgres:///d?host=/run/pg&password=pass", "postgresql:///d", id="a socket"),
        pytest.param("postgresql://[::1]/d", "postgresql://[::1]/d", id="no user"),
    ],
)
def test_an_address_is_shown_without_password_and_options(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_errors_of_the_database_are_errors_of_stoker(postgres_server: postgres.Server) -> None:
    """Faces turn those into answers: nothing that is the server's trouble may reach them as anything else."""

    async def main() -> None:
        async with opened(postgres_server.database()) as store:
            end = text("SELECT pg_terminate_backend(pg_backend_pid())")
            with pytest.raises(StokerError):
                await store.write(lambda tx: tx.execute(end).all())
            with pytest.raises(Unavailable):
                await asyncio.wait_for(store.lasts(), WAIT_S)

    asyncio.run(main())

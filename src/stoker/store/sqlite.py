"""The store on one SQLite file: a writer thread with group commit, and a few readers beside it.

Commands wait in one queue. The writer takes all that are there, runs each in a savepoint of one transaction, commits
once and only then answers: many small writes share one flush to disk (`synchronous=FULL`), and an answered write is
durable.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool, StaticPool

from stoker.domain.errors import Invalid, Unavailable
from stoker.store import schema
from stoker.store.commands import BACKLOG_FULL, BACKLOG_MAX, BATCH_MAX, Outcome, commit, in_transaction

T = TypeVar("T")

READERS = 2
# At once with the lock to write, so that no command finds at its first write that somebody else has it.
BEGIN = "BEGIN IMMEDIATE"
BUSY_TIMEOUT_S = 10.0
CAUSES_MAX = 8
_TROUBLE = frozenset(
    (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY)
)


@dataclass(frozen=True, slots=True)
class _Command:
    run: Callable[[Connection], Any]
    future: Future[Any]


def _engine(url: str, **options: Any) -> Engine:
    engine = create_engine(url, isolation_level="AUTOCOMMIT", **options)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={int(BUSY_TIMEOUT_S * 1000)}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


class SqliteStore:
    """See `stoker.store.base.Store`. Open one with `open_file`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._closed = False
        self._writer = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._writer.start()

    async def read(self, query: Callable[[Connection], T]) -> T:
        return await asyncio.wrap_future(self._readers.submit(lambda: query(self._reader())))

    def _reader(self) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._engine.connect()
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    async def write(self, command: Callable[[Connection], T]) -> T:
        if self._closed:
            raise Unavailable("the store is closed")
        if self._commands.qsize() >= BACKLOG_MAX:
            raise Unavailable(BACKLOG_FULL)
        future: Future[T] = Future()
        self._commands.put(_Command(command, future))
        return await asyncio.wrap_future(future)

    def _write_loop(self) -> None:
        connection = self._engine.connect()
        try:
            while (first := self._commands.get()) is not None:
                batch, more = self._batch(first)
                self._commit(connection, batch)
                if not more:
                    break
        finally:
            connection.close()

    def _batch(self, first: _Command) -> tuple[list[_Command], bool]:
        batch = [first]
        while len(batch) < BATCH_MAX:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                break
            if command is None:
                return batch, False
            batch.append(command)
        return batch, True

    def _commit(self, connection: Connection, batch: list[_Command]) -> None:
        wanted = [command for command in batch if not command.future.cancelled()]
        try:
            outcomes = commit(connection, [command.run for command in wanted], begin=BEGIN)
        except BaseException as exc:  # noqa: BLE001 - handed to every caller
            # Nothing of this batch is on disk: every caller must know, those whose own command went well included.
            outcomes = [Outcome(None, exc)] * len(wanted)
        for command, outcome in zip(wanted, outcomes, strict=True):
            failed = outcome.error is not None
            _answer(command.future, Outcome(None, _in_our_words(outcome.error)) if failed else outcome)

    async def lasts(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._commands.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown(wait=True)
        for connection in self._connections:
            connection.close()
        self._engine.dispose()


def _answer(future: Future[Any], outcome: Outcome) -> None:
    if future.cancelled() or not future.set_running_or_notify_cancel():
        return
    if outcome.error is not None:
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome.result)


class InlineSqliteStore:
    """The same on a database in memory, run in the caller's own thread: for simulations on virtual time, where nothing
    may happen behind the event loop's back. Nothing is kept.
    """

    def __init__(self) -> None:
        self._engine = _engine("sqlite://", poolclass=StaticPool)
        self._connection = self._engine.connect()
        in_transaction(self._connection, schema.upgrade, begin=BEGIN)

    async def read(self, query: Callable[[Connection], T]) -> T:
        return query(self._connection)

    async def write(self, command: Callable[[Connection], T]) -> T:
        return in_transaction(self._connection, command, begin=BEGIN)

    async def lasts(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        self._connection.close()
        self._engine.dispose()


def open_file(path: Path) -> SqliteStore:
    """Open the database at `path`, made or migrated first where needed.

    Raises `Unsupported` for a database of a newer version, `Invalid` for a file that is no database or a damaged one,
    `Unavailable` for one that cannot be written now.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    engine = _engine(f"sqlite:///{path}", poolclass=NullPool, connect_args={"check_same_thread": False})
    try:
        with engine.connect() as connection:
            in_transaction(connection, schema.upgrade, begin=BEGIN)
    except BaseException as exc:
        engine.dispose()
        _refuse_damaged(exc, path)
        worded = _in_our_words(exc)
        if isinstance(worded, Unavailable):
            raise worded from exc
        raise
    return SqliteStore(engine)


def snapshot(path: Path, query: Callable[[Connection], T]) -> T:
    """Run a query that sees one moment of the database, beside whoever uses it. Raises `Invalid` when there is none."""
    if not path.exists():
        raise Invalid(f"there is no database at {path}")
    engine = _engine(f"sqlite:///{path}", poolclass=NullPool)
    try:
        with engine.connect() as connection:
            return in_transaction(connection, query, begin="BEGIN")
    except DatabaseError as exc:
        _refuse_damaged(exc, path)
        raise
    finally:
        engine.dispose()


def _in_our_words(exc: BaseException | None) -> BaseException | None:
    """The exception for a caller: `Unavailable` for what is the disk's trouble, others as they are."""
    looked = exc
    # What SQLite has undone by itself fails once more when it is undone: the first exception says why.
    for _ in range(CAUSES_MAX):
        if _code(looked) in _TROUBLE:
            return Unavailable(f"the database cannot be written: {getattr(looked, 'orig', looked)}")
        if looked is None:
            break
        looked = looked.__context__
    return exc


def _code(exc: BaseException | None) -> int | None:
    """The kind of an error of SQLite."""
    code = getattr(getattr(exc, "orig", exc), "sqlite_errorcode", None)
    # The low byte is the kind, what is above tells more of it.
    return code & 0xFF if isinstance(code, int) else None


def _refuse_damaged(exc: BaseException, path: Path) -> None:
    """Raise `Invalid` for what no other try will mend."""
    if _code(exc) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        text = f"{path} is no database or a damaged one: move it away, and bring back a backup with `stoker restore`"
        raise Invalid(text) from exc

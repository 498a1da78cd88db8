"""Opens a PostgreSQL database: waits for the server, takes the lock that makes this the one control, migrates."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import asyncpg
from sqlalchemy import Connection

from stoker.domain.errors import Conflict, Unavailable, Unsupported
from stoker.store import schema
from stoker.store.commands import in_transaction
from stoker.store.postgres import BEGIN, PostgresStore
from stoker.store.postgres_sessions import STATEMENT_TIMEOUT_S, Sessions, engine_of, in_our_words

# A server that restarts is back within seconds. Whoever gives up after this is started again by the supervisor.
SERVER_WAIT_S = 60.0
# A previous control of the same installation may still be on its way out, or its machine has vanished.
OWN_LOCK_WAIT_S = 40.0
# Somebody else's is not going to go away.
OTHER_LOCK_WAIT_S = 1.0
LOOK_S = 0.25
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Of the application, in the database's own space of advisory locks.
LOCK = int.from_bytes(b"stoker", "big")
_HOLDER = """
SELECT a.application_name, a.backend_start
FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()
  AND l.classid::bigint = $1::bigint >> 32 AND l.objid::bigint = $1::bigint & 4294967295 AND l.objsubid = 1
"""

T = TypeVar("T")
Waiting = Callable[[str], None]


def session_name(data_dir: Path) -> str:
    """What the server calls the sessions of the Stoker on this data folder: its machine, and a mark of the folder."""
    mark = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:8]
    # The server cuts names at 63 bytes.
    return f"stoker on {socket.gethostname()[:40]} {mark}"


async def open_database(
    url: str,
    *,
    data_dir: Path,
    waiting: Waiting = lambda _: None,
    wait_s: float = SERVER_WAIT_S,
    own_lock_wait_s: float = OWN_LOCK_WAIT_S,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
) -> PostgresStore:
    """Open the database at `url`, made or migrated first where needed. `waiting` is told why it takes longer.

    Raises `Unavailable` when the server does not answer within `wait_s`; `Conflict` when another Stoker has the
    database; `Invalid` when it refuses the user; `Unsupported` when it is of a newer version or not to be written to.
    """
    sessions = Sessions(url, session_name(data_dir), statement_timeout_s)
    writer = await _reached(sessions, waiting=waiting, wait_s=wait_s)
    try:
        await _check(sessions, writer)
        await _lock(sessions, writer, waiting=waiting, own_wait_s=own_lock_wait_s)
        connection = await engine_of(writer).connect()
    except BaseException:
        writer.terminate()
        raise
    try:
        await connection.run_sync(in_transaction, _migrate, begin=BEGIN)
        return PostgresStore(sessions, connection, writer)
    except BaseException as exc:
        await connection.close()
        raise in_our_words(exc) from exc


async def _reached(sessions: Sessions, *, waiting: Waiting, wait_s: float) -> asyncpg.Connection:
    deadline = time.monotonic() + wait_s
    said = ""
    while True:
        try:
            return await sessions.connect(writes=True)
        except Unavailable as exc:
            if time.monotonic() >= deadline:
                raise
            if str(exc) != said:
                said = str(exc)
                waiting(f"waiting for {said}")
        await asyncio.sleep(LOOK_S)


async def _check(sessions: Sessions, writer: asyncpg.Connection) -> None:
    """Is this a database that can be kept in? Raises `Unsupported`."""
    if (encoding := await writer.fetchval("SHOW server_encoding")) != "UTF8":
        raise Unsupported(f"the database {sessions.shown} has the encoding {encoding}; make one with ENCODING 'UTF8'")
    if await writer.fetchval("SELECT pg_is_in_recovery()"):
        raise Unsupported(f"the database {sessions.shown} is a standby, which takes no changes; name the primary")
    if await writer.fetchval("SHOW synchronous_commit") == "off":
        # What was answered must be there after a crash of the server.
        await writer.execute("SET synchronous_commit = on")


async def _lock(sessions: Sessions, writer: asyncpg.Connection, *, waiting: Waiting, own_wait_s: float) -> None:
    began, told = time.monotonic(), False
    while not await writer.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        holder = await writer.fetchrow(_HOLDER, LOCK)
        name = None if holder is None else holder["application_name"]
        limit_s = own_wait_s if name == sessions.name else OTHER_LOCK_WAIT_S
        if time.monotonic() - began >= limit_s:
            since = f", since {holder['backend_start']:%Y-%m-%d %H:%M:%S} UTC" if holder and name else ""
            raise Conflict(
                f"the database {sessions.shown} is in use by another Stoker ({name or 'of another user'}{since}): "
                "a database serves one at a time; stop that one, or name another database"
            )
        if not told:
            told = True
            waiting(f"waiting for the lock on the database {sessions.shown}, held by {name or 'somebody'}")
        await asyncio.sleep(LOOK_S)


def _migrate(connection: Connection) -> None:
    # A migration takes as long as it takes; it still waits for nobody's lock.
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    schema.upgrade(connection)


async def snapshot(url: str, query: Callable[[Connection], T]) -> T:
    """Run a query on a session of its own that sees one moment and changes nothing."""
    sessions = Sessions(url, f"stoker backup on {socket.gethostname()[:40]}")
    connection = await engine_of(await sessions.connect(writes=False)).connect()
    try:
        return await connection.run_sync(in_transaction, query, begin=SNAPSHOT)
    except Exception as exc:
        raise in_our_words(exc) from exc
    finally:
        await connection.close()

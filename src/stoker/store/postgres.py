"""The store on a PostgreSQL database: one session that writes, with group commit, and a few that only read.

Why one writer with a lock instead of SERIALIZABLE and retries: the session that writes holds an advisory lock on the
database for as long as it lives, so nobody else's commands come between, none is ever run twice, and commands mean the
same here as on SQLite. Lock and session end together: what has lost the lock cannot write. There is no going on after
that, since a commit may have been cut: `lasts` raises, and control starts anew from what the database says.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from stoker.domain.errors import Unavailable
from stoker.store.commands import BACKLOG_FULL, BACKLOG_MAX, BATCH_MAX, Outcome, commit
from stoker.store.postgres_sessions import LOST, Sessions, in_our_words, is_lost

T = TypeVar("T")

READERS = 4
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
# An idle writer asks the server this often whether it is still there: only then is a silent loss noticed.
HEARTBEAT_S = 5.0
# For a whole batch or read, besides the server's limit for each statement: one that is stopped enforces none.
PATIENCE_S = 60.0
CLOSE_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Command:
    run: Callable[[Connection], Any]
    future: asyncio.Future[Any]


class PostgresStore:
    """See `stoker.store.base.Store`. Open one with `stoker.store.postgres_opening.open_database`."""

    def __init__(self, sessions: Sessions, writer: AsyncConnection, session: asyncpg.Connection) -> None:
        """`writer` is what SQLAlchemy makes of `session`, which holds the lock."""
        self.patience_s = PATIENCE_S
        self._writer = writer
        self._reading = sessions.engine(pool=READERS)
        self._commands: deque[_Command] = deque()
        self._some = asyncio.Event()
        self._closed = False
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        session.add_termination_listener(lambda _: self._lose(LOST))
        self._task = asyncio.create_task(self._write_loop())

    async def read(self, query: Callable[[Connection], T]) -> T:
        # A session may have ended while it was idle: the question is asked once more, on a fresh one.
        try:
            return await self._read(query)
        except Exception as exc:
            if not is_lost(exc):
                raise in_our_words(exc) from exc
        try:
            return await self._read(query)
        except Exception as exc:
            raise in_our_words(exc) from exc

    async def _read(self, query: Callable[[Connection], T]) -> T:
        if self._closed:
            raise Unavailable("the store is closed")
        async with asyncio.timeout(PATIENCE_S), self._reading.connect() as connection:
            return await connection.run_sync(query)

    async def write(self, command: Callable[[Connection], T]) -> T:
        if self._closed:
            raise Unavailable("the store is closed")
        if self._lost.done():
            raise Unavailable(LOST)
        if len(self._commands) >= BACKLOG_MAX:
            raise Unavailable(BACKLOG_FULL)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._commands.append(_Command(command, future))
        self._some.set()
        return await future

    async def lasts(self) -> None:
        await asyncio.shield(self._lost)

    async def _write_loop(self) -> None:
        while not self._lost.done():
            batch = [self._commands.popleft() for _ in range(min(len(self._commands), BATCH_MAX))]
            if batch:
                await self._commit([command for command in batch if not command.future.done()])
            elif self._closed:
                return
            else:
                await self._idle()
        for command in self._commands:
            _answer(command.future, Outcome(None, Unavailable(LOST)))
        self._commands.clear()

    async def _idle(self) -> None:
        """Wait for a command, and look after the session when none comes."""
        self._some.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S):
                await self._some.wait()
            return
        await self._commit([])

    async def _commit(self, batch: list[_Command]) -> None:
        try:
            async with asyncio.timeout(self.patience_s):
                outcomes = await self._writer.run_sync(commit, [command.run for command in batch], begin=BEGIN)
        except Exception as exc:  # noqa: BLE001 - handed to every caller
            # Nothing of this batch is known to be there: every caller must know.
            error = in_our_words(exc)
            if self._writer.invalidated or self._writer.closed or isinstance(exc, TimeoutError) or is_lost(exc):
                self._lose(LOST)
            outcomes = [Outcome(None, error)] * len(batch)
        for command, outcome in zip(batch, outcomes, strict=True):
            said = None if outcome.error is None else in_our_words(outcome.error)
            _answer(command.future, Outcome(outcome.result, said))

    def _lose(self, why: str) -> None:
        if not self._closed and not self._lost.done():
            self._lost.set_exception(Unavailable(why))
            # Whoever asks with `lasts` hears of it; nobody has to.
            self._lost.exception()
            self._some.set()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._some.set()
        _, unfinished = await asyncio.wait([self._task], timeout=CLOSE_WAIT_S)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(Exception):
            # A session that is gone cannot be closed in good order.
            await self._writer.close()
        await self._reading.dispose()


def _answer(future: asyncio.Future[Any], outcome: Outcome) -> None:
    if future.done():
        return
    if outcome.error is not None:
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome.result)

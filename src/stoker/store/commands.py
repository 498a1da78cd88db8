"""Group commit: commands that wait together run in one transaction, each of several in a savepoint of its own.

Shared by the stores; each of them decides where this runs and what it does about a failure of the whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

T = TypeVar("T")

# Commands in one commit: more would only make the first of them wait longer.
BATCH_MAX = 256
# Beyond this many unanswered commands new ones are refused: the disk does not keep up.
BACKLOG_MAX = 10_000
BACKLOG_FULL = "the database does not keep up with the changes asked for; try again in a moment"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command returned, or the exception that undid it."""

    result: Any
    error: BaseException | None


def in_transaction(connection: Connection, command: Callable[[Connection], T], *, begin: str) -> T:
    """Run a command as one transaction; an exception undoes it. `begin` is the statement that opens one."""
    connection.exec_driver_sql(begin)
    try:
        result = command(connection)
    except BaseException:
        # A database that gave up by itself, or a connection that is gone, has nothing left to undo.
        with contextlib.suppress(SQLAlchemyError):
            connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")
    return result


def commit(connection: Connection, commands: Sequence[Callable[[Connection], Any]], *, begin: str) -> list[Outcome]:
    """Run the commands one after the other in one transaction. When this returns, those that went well are durable.

    Raises what hinders the transaction as a whole: then nothing of it is known to be there.
    """
    if len(commands) == 1:
        return [_alone(connection, commands[0], begin=begin)]
    return in_transaction(connection, lambda tx: [_savepoint(tx, command) for command in commands], begin=begin)


def _alone(connection: Connection, command: Callable[[Connection], Any], *, begin: str) -> Outcome:
    """The same for one command, which is the whole transaction: a savepoint would be two more ways to a server."""
    failed: list[BaseException] = []

    def run(tx: Connection) -> Any:
        try:
            return command(tx)
        except BaseException as exc:
            failed.append(exc)
            raise

    try:
        return Outcome(in_transaction(connection, run, begin=begin), None)
    except BaseException as exc:
        if connection.invalidated or exc not in failed:
            raise
        return Outcome(None, exc)


def _savepoint(connection: Connection, command: Callable[[Connection], Any]) -> Outcome:
    connection.exec_driver_sql("SAVEPOINT command")
    try:
        result = command(connection)
    except BaseException as exc:
        if connection.invalidated:
            # There is no savepoint to go back to, nor anything else.
            raise
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT command")
        connection.exec_driver_sql("RELEASE SAVEPOINT command")
        return Outcome(None, exc)
    connection.exec_driver_sql("RELEASE SAVEPOINT command")
    return Outcome(result, None)

"""Sessions of a PostgreSQL server: how they are made and bounded, and what their failures mean to a caller.

Used by the store beside it and by `stoker backup`. No message of this file contains a password.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from stoker.domain.errors import Invalid, StokerError, Unavailable

CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 30.0
# Nobody else writes; only a person with a client of their own can be in the way.
LOCK_TIMEOUT_S = 10.0
# A session whose process is on a machine that vanished is given up by the server after about half a minute; then its
# lock is free.
_KEEPALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "4"}
READ_WAIT_S = 10.0
LOST = (
    "the connection to the database was lost; whether the last changes were made is known once it is back: "
    "try again in a moment"
)
# SQLSTATE: what waiting does not mend. Password, user, no such database, no rights, and syntax of the address.
_HOPELESS = ("28000", "28P01", "3D000", "42501")
# Connection failures; the server is going down, has crashed, or does not take connections yet.
_LOST = ("08", "57P")
# Out of disk, memory or connections, or of time.
_EXHAUSTED = ("53", "57014", "55P03", "40")


@dataclass(frozen=True, slots=True)
class Sessions:
    """How to reach one database. `name` is what the server's own views call these sessions."""

    url: str
    name: str
    statement_timeout_s: float = STATEMENT_TIMEOUT_S

    @property
    def shown(self) -> str:
        """The address without its password, for messages."""
        return shown(self.url)

    async def connect(self, *, writes: bool) -> asyncpg.Connection:
        """A new session. Raises `Invalid` for what waiting does not mend, `Unavailable` for what it may."""
        settings = {
            "application_name": self.name,
            "statement_timeout": f"{self.statement_timeout_s * 1000:.0f}",
            "lock_timeout": f"{LOCK_TIMEOUT_S * 1000:.0f}",
            "default_transaction_read_only": "off" if writes else "on",
            "timezone": "UTC",
            **_KEEPALIVE,
        }
        try:
            connection = await asyncpg.connect(dsn=self.url, timeout=CONNECT_TIMEOUT_S, server_settings=settings)
            for text in ("text", "varchar"):
                await connection.set_type_codec(
                    text, schema="pg_catalog", format="text", encoder=_without_nul, decoder=str
                )
            return connection
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as exc:
            said = self._without_password(f"the database {self.shown}: {exc or type(exc).__name__}")
            lasting = isinstance(exc, asyncpg.ClientConfigurationError | ValueError)
            if lasting or getattr(exc, "sqlstate", None) in _HOPELESS:
                raise Invalid(said) from None
            raise Unavailable(said) from None

    def _without_password(self, text: str) -> str:
        password = urlsplit(self.url).password or os.environ.get("PGPASSWORD")
        for secret in {password, unquote(password)} if password else ():
            text = text.replace(secret, "***")
        return text

    def engine(self, *, pool: int) -> AsyncEngine:
        """An engine of sessions that only read, at most `pool` at once."""
        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=partial(self.connect, writes=False),
            isolation_level="AUTOCOMMIT",
            poolclass=AsyncAdaptedQueuePool,
            pool_size=pool,
            max_overflow=0,
            pool_timeout=READ_WAIT_S,
        )


def engine_of(connection: asyncpg.Connection) -> AsyncEngine:
    """An engine of this one session."""

    async def itself() -> asyncpg.Connection:
        return connection

    return create_async_engine(
        "postgresql+asyncpg://", async_creator=itself, isolation_level="AUTOCOMMIT", poolclass=NullPool
    )


def _without_nul(text: str) -> str:
    # The one character that PostgreSQL cannot keep; workers print it, and callers look for it.
    return text.replace("\0", "\ufffd")


def shown(url: str) -> str:
    """The address of a database without its password and options."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    return f"postgresql://{user}{host}{parts.path}"


def _state(exc: BaseException) -> str:
    found: Any = exc.orig if isinstance(exc, DBAPIError) else exc
    return str(getattr(found, "sqlstate", None) or "")


def is_lost(exc: BaseException) -> bool:
    """Did the session end, or never begin?"""
    if isinstance(exc, PendingRollbackError) or (isinstance(exc, DBAPIError) and exc.connection_invalidated):
        return True
    # A hot statement's own driver raises this, untranslated.
    if isinstance(exc, asyncpg.InterfaceError):
        return True
    return (isinstance(exc, OSError) and not isinstance(exc, TimeoutError)) or _state(exc).startswith(_LOST)


def in_our_words(exc: BaseException) -> BaseException:
    """The exception for a caller: `Unavailable` for what is the server's trouble, others as they are."""
    if isinstance(exc, StokerError):
        return exc
    if isinstance(exc, PoolTimeout):
        return Unavailable("the database has more to read than it can; try again in a moment")
    if is_lost(exc):
        return Unavailable(LOST)
    if isinstance(exc, TimeoutError) or _state(exc).startswith(_EXHAUSTED):
        return Unavailable(f"the database could not do it in time or has no room: {_first_line(exc)}")
    return exc


def _first_line(exc: BaseException) -> str:
    text = str(exc.orig if isinstance(exc, DBAPIError) else exc).strip()
    return text.splitlines()[0] if text else type(exc).__name__

"""What is remembered: the protocol of a store. Queries are plain functions of a transaction, one file per noun beside
this one, so that several of them make one transaction and every store runs the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")


class Store(Protocol):
    """Implementations: `stoker.store.sqlite`, `stoker.store.postgres`."""

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query that changes nothing. It sees every change whose `write` has returned."""

    async def write(self, command: Callable[[Connection], T]) -> T:
        """Run a command as one transaction and return its result once that is on disk.

        An exception of the command undoes all of it and nothing else, and is raised here. Commands run one after the
        other, so that one may read what it decides upon. They must not do I/O of their own.
        """

    async def lasts(self) -> None:
        """Return never. Raises `Unavailable` once this store can no longer write and never will: only one that is
        opened anew knows what was written last.
        """

    async def close(self) -> None:
        """Finish what was accepted, then let go of the database."""

"""Where tests of the store keep things: one database, of either kind, that can be opened again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from stoker.store.base import Store
from stoker.store.opening import open_store

KINDS = ("sqlite", "postgres")
Body = Callable[[Store], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Place:
    """`url` is `None` for SQLite."""

    folder: Path
    url: str | None

    @property
    def file(self) -> Path:
        return self.folder / "stoker.db"

    @property
    def kind(self) -> str:
        return "sqlite" if self.url is None else "postgres"

    async def open(self) -> Store:
        return await open_store(self.url, file=self.file, data_dir=self.folder)

    def run(self, body: Body) -> None:
        """Open it, run the body, close it."""

        async def main() -> None:
            store = await self.open()
            try:
                await body(store)
            finally:
                await store.close()

        asyncio.run(main())

"""Bodies of tasks that are too large for the database: files, each written once, on disk before anybody hears of it.

The records say which files there are. One that no record names was left by something that was killed: `sweep`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from uuid import uuid4

from stoker.domain.errors import Unavailable
from stoker.domain.task import INLINE_BYTES_MAX, Body

PIECE_BYTES = 256 * 1024
# A file this young may belong to a record that is just being written.
LEFTOVER_S = 3_600.0


class Spool:
    """A folder of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """Where a file is."""
        return self._folder / name

    async def keep(self, content: bytes) -> Body:
        """A body for a record: inline when it is small. Raises `Unavailable`."""
        if len(content) <= INLINE_BYTES_MAX:
            return Body(size=len(content), inline=content)
        return await self.keep_pieces([content])

    async def keep_pieces(self, pieces: Iterable[bytes]) -> Body:
        """A body in a file. Raises `Unavailable` when it cannot be written."""
        name = uuid4().hex
        try:
            return Body(size=await asyncio.to_thread(self._write, name, pieces), file=name)
        except OSError as exc:
            await self.remove([name])
            raise Unavailable(f"the body cannot be written: {exc.strerror or exc}") from exc

    def _write(self, name: str, pieces: Iterable[bytes]) -> int:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        size = 0
        with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for piece in pieces:
                size += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return size

    async def read(self, body: Body) -> bytes:
        """The whole of it. Raises `Unavailable` when its file is gone."""
        if body.file is None:
            return body.inline or b""
        try:
            return await asyncio.to_thread(self.path(body.file).read_bytes)
        except OSError as exc:
            raise Unavailable(f"the file of this body is gone: {exc.strerror or exc}") from exc

    async def pieces(self, body: Body) -> AsyncIterator[bytes]:
        """The same bit by bit."""
        if body.file is None:
            yield body.inline or b""
            return
        file = await asyncio.to_thread(open, self.path(body.file), "rb")
        with file:
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield piece

    async def remove(self, names: Iterable[str]) -> None:
        """Remove files; unknown ones are none the worse."""
        paths = [self.path(name) for name in names]

        def remove() -> None:
            for path in paths:
                path.unlink(missing_ok=True)

        if paths:
            await asyncio.to_thread(remove)

    async def sweep(self, named: set[str]) -> int:
        """Remove what no record names and is not new. How many files."""

        def left() -> list[str]:
            if not self._folder.is_dir():
                return []
            young = time.time() - LEFTOVER_S
            return [
                entry.name
                for entry in os.scandir(self._folder)
                if entry.name not in named and entry.stat().st_mtime < young
            ]

        names = await asyncio.to_thread(left)
        await self.remove(names)
        return len(names)

"""What became of a detached attempt: in memory while small, in a file beyond, within bounds. Writes, never waits.

`gateway.attempts` fills and reads it. No file is worth a sync: an attempt whose gateway is gone is made again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final

MEMORY_BYTES_MAX: Final = 64 * 1024
PIECE_BYTES: Final = 256 * 1024


class Spool:
    """The folder for results, and how much may lie in it in all."""

    def __init__(self, folder: Path, *, bytes_max: int, result_bytes_max: int) -> None:
        self.folder = folder
        self.bytes_max = bytes_max
        self.result_bytes_max = result_bytes_max
        self.used = 0

    def open(self, name: str) -> BinaryIO:
        """A file of its own, readable by its owner alone. Raises `OSError`."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / name
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w+b")

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self.folder / name).unlink(missing_ok=True)


class Body:
    """The body of one answer. `too_long`: it went over a bound, and what came then was dropped."""

    def __init__(self, spool: Spool, name: str) -> None:
        self._spool = spool
        self._name = name
        self._parts: list[bytes] = []
        self._file: BinaryIO | None = None
        self.size = 0
        self.too_long = False

    def write(self, data: bytes) -> None:
        """More of it."""
        spool = self._spool
        if self.size + len(data) > spool.result_bytes_max or spool.used + len(data) > spool.bytes_max:
            self.too_long = True
        if self.too_long:
            return
        self.size += len(data)
        spool.used += len(data)
        if self._file is None and self.size <= MEMORY_BYTES_MAX:
            self._parts.append(data)
            return
        try:
            if self._file is None:
                self._file = spool.open(self._name)
                parts, self._parts = self._parts, []
                self._file.writelines(parts)
            self._file.write(data)
        except OSError:
            # No room on the disk is as good as a bound.
            self.too_long = True

    def read(self, offset: int) -> bytes:
        """A piece from `offset` on; empty at the end. Raises `OSError`."""
        if self._file is None:
            return b"".join(self._parts)[offset:]
        self._file.seek(offset)
        return self._file.read(PIECE_BYTES)

    def drop(self) -> None:
        """Nobody wants it any more. Harmless when repeated."""
        self._spool.used -= self.size
        self.size = 0
        self._parts = []
        if self._file is not None:
            self._file.close()
            self._file = None
            self._spool.remove(self._name)

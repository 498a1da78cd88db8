"""What workers that ask for tasks have put out so far, as long as they are at it: a file of lines for each lease.

Another control goes on with them, as the workers do. They are not flushed to the disk: a machine that loses its power
loses these workers, too. The end of the job, which is, has the whole.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable
from pathlib import Path

from stoker.domain.errors import Unavailable
from stoker.domain.pulling import JobReport

# One JSON document a line.
TYPE = "application/x-ndjson"


class Streams:
    """A folder of them. Methods raise `Unavailable` when a file cannot be read or written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def append(self, lease: str, line: bytes, *, bytes_max: int) -> bool:
        """One line more. False, and nothing is done, when that would make more than `bytes_max`."""
        try:
            return await asyncio.to_thread(self._append, lease, line + b"\n", bytes_max)
        except OSError as exc:
            raise Unavailable(f"the output cannot be written: {exc.strerror or exc}") from exc

    def _append(self, lease: str, line: bytes, bytes_max: int) -> bool:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(self._folder / lease, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
            if file.tell() + len(line) > bytes_max:
                return False
            # At once, so that whoever reads finds whole lines.
            file.write(line)
        return True

    async def read(self, lease: str, offset: int = 0) -> bytes:
        """From there on; nothing of what nobody has put out."""

        def read() -> bytes:
            try:
                with open(self._folder / lease, "rb") as file:
                    file.seek(offset)
                    return file.read()
            except FileNotFoundError:
                return b""

        try:
            return await asyncio.to_thread(read)
        except OSError as exc:
            raise Unavailable(f"the output cannot be read: {exc.strerror or exc}") from exc

    async def remove(self, lease: str) -> None:
        """It is over."""
        await asyncio.to_thread((self._folder / lease).unlink, missing_ok=True)

    async def sweep(self, held: Iterable[str]) -> None:
        """Remove those of leases that nobody holds."""
        known = frozenset(held)

        def sweep() -> None:
            if self._folder.is_dir():
                for path in self._folder.iterdir():
                    if path.name not in known:
                        path.unlink(missing_ok=True)

        await asyncio.to_thread(sweep)


def result_of(report: JobReport, lines: bytes) -> tuple[bytes, str]:
    """What is kept of a job that has put out these lines before, and of which type."""
    if report.error is not None:
        said = json.dumps({"error": report.error}).encode()
        # Whoever has followed the lines goes on with this one.
        return (lines + said + b"\n", TYPE) if lines else (said, "application/json")
    if report.pieces is None:
        return report.output if report.output is not None else b"null", "application/json"
    return (b"".join(piece + b"\n" for piece in report.pieces), TYPE) if report.pieces else (lines, TYPE)

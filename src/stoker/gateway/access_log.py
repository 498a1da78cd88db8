"""The optional access log: one JSON object a line for each request that asked for a slot, written four times a second.

Never a key, a query or a body: a key's id, and the path alone. A request costs one tuple; `Gateway.tick` writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from stoker.gateway.head import Request
from stoker.gateway.ledger import Note

log = structlog.get_logger(__name__)

PENDING_MAX: Final = 50_000
_encoder = msgspec.json.Encoder()


class AccessLog:
    """Appends to the file at `path`, made for its owner alone, and opens it anew when it was moved away (rotation).

    `wall` gives seconds since the epoch, `time` the event loop's, in which notes are.
    """

    def __init__(self, path: Path, *, wall: Callable[[], float], time: Callable[[], float]) -> None:
        self._path = path
        self._offset = wall() - time()
        self._pending: list[tuple[Note, bytes, bytes, str, str | None]] = []
        self._file: int | None = None
        self.dropped = 0

    def note(self, note: Note, request: Request, slug: str, worker: str | None) -> None:
        """A request has ended."""
        if len(self._pending) < PENDING_MAX:
            self._pending.append((note, request.method, request.target, slug, worker))
        else:
            self.dropped += 1

    def flush(self) -> None:
        """Write what has ended since. What cannot be written is dropped and counted; requests do not wait for a log."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        try:
            # One write: lines of a gateway and of its successor do not mix.
            os.write(self._open(), b"".join(self._line(*item) for item in pending))
        except OSError as exc:
            self.dropped += len(pending)
            log.warning("access_log_not_written", path=str(self._path), error=str(exc), dropped=self.dropped)

    def _open(self) -> int:
        if self._file is not None:
            try:
                there, here = os.stat(self._path), os.fstat(self._file)
                if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
                    return self._file
            except FileNotFoundError:
                pass
            self.close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return self._file

    def _line(self, note: Note, method: bytes, target: bytes, slug: str, worker: str | None) -> bytes:
        admitted, first = note.admitted_at, note.first_byte_at
        line = {
            "time": round(self._offset + note.arrived_at, 3),
            "method": method.decode("latin-1"),
            "path": target.partition(b"?")[0].decode("latin-1"),
            "endpoint": slug,
            "worker": worker,
            "key": note.key,
            "status": note.status,
            "wait_s": round((note.ended_at if admitted is None else admitted) - note.arrived_at, 4),
            "first_byte_s": None if first is None else round(first - note.arrived_at, 4),
            "total_s": round(note.ended_at - note.arrived_at, 4),
        }
        return _encoder.encode(line) + b"\n"

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

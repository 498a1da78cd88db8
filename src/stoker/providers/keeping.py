"""What providers keep that those who run their workers forget: the mark of this installation, and the last output of
workers that are gone, as `worker_log` reads it.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from stoker.providers.base import LogLine


def mark(path: Path) -> str:
    """What tells our workers from those of other installations at the same place; made once."""
    with contextlib.suppress(FileExistsError), path.open("x", encoding="ascii") as file:
        file.write(secrets.token_hex(16) + "\n")
    return path.read_text(encoding="ascii").strip()


def keep(said: Iterable[LogLine], folder: Path, *, bytes_max: int) -> None:
    """Write down the last of these lines, so many bytes at most."""
    lines = [f"{line.at:.6f} {line.stream} {line.text}\n".encode() for line in said]
    size = sum(map(len, lines))
    first = 0
    while size > bytes_max and first < len(lines):
        size -= len(lines[first])
        first += 1
    if first < len(lines):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = folder / ".log"
        aside.write_bytes(b"".join(lines[first:]))
        aside.replace(folder / "log")


def trim(gone: Path, kept: int) -> None:
    """Forget all but the last so many ended workers."""
    with contextlib.suppress(FileNotFoundError):
        folders = [path for path in gone.iterdir() if path.is_dir()]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in folders[kept:]:
            shutil.rmtree(path, ignore_errors=True)

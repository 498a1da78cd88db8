"""What providers keep that those who run their workers forget: the mark of this installation, and the last output of
workers that are gone, as `worker_log` reads it.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from stoker import key_files
from stoker.providers.base import LogLine

# The file of the mark, in the folder of a provider.
MARK = "installation"


def mark(folder: Path) -> str:
    """What tells our workers from those of other installations at the same place; made once."""
    path = folder / MARK
    # One that was cut off as it was written, by older versions on a full disk, marks nothing.
    if not path.exists() or not path.read_text(encoding="ascii").strip():
        # Whole and there after a power cut, or not at all: workers with a mark that nobody knows are nobody's.
        key_files.write(path, f"{secrets.token_hex(16)}\n".encode())
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

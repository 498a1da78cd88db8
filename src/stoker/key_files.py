"""Writes the files that keys lie in: for their owner alone, never half written, there after a power cut.

Touches nothing but the file and one beside it.
"""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Put `content` in the place of what is at `path`. Raises `OSError`, and leaves it as it was then."""
    # Aside, flushed and moved: a reader never finds half a key, and what a key has encrypted or signed does not
    # outlive it. Readable by its owner alone from the start.
    aside = path.with_suffix(".new")
    aside.unlink(missing_ok=True)
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""The key that the command line on this machine finds in the data folder. Looked after at each start of control."""

from __future__ import annotations

import contextlib
from pathlib import Path

from stoker import key_files
from stoker.control.keys import Keys
from stoker.domain.access import Scope
from stoker.domain.errors import StokerError
from stoker.store import installation


async def ensure(keys: Keys, path: Path) -> None:
    """Make it: at the first start, or when its file is not usable."""
    if _usable(keys, path):
        return
    _, secret = await keys.create(
        installation.DEFAULT_PROJECT,
        name="admin of this machine",
        scopes=frozenset({Scope.ADMIN}),
        installation=True,
    )
    key_files.write(path, f"{secret}\n".encode("ascii"))


def _usable(keys: Keys, path: Path) -> bool:
    with contextlib.suppress(OSError, UnicodeDecodeError, StokerError):
        # One that was made before keys of the installation were there is made anew.
        return keys.principal(path.read_text(encoding="ascii").strip()).installation
    return False

"""Every test of the store that asks for a `place` runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from postgres import Server
from store.places import KINDS, Place


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A database that is not made yet."""
    if request.param == "sqlite":
        return Place(tmp_path, None)
    server: Server = request.getfixturevalue("postgres_server")
    return Place(tmp_path, server.database())

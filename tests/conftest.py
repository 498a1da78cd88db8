"""What all tests share: the folder of the tests on the path, for the builders beside them; and a PostgreSQL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A real server, one for each process of tests. Without one: skipped on a laptop, failed in CI."""
    try:
        with postgres.server() as server:
            yield server
    except postgres.NoPostgres as exc:
        if os.environ.get("CI"):
            pytest.fail(f"no PostgreSQL: {exc}")
        pytest.skip(f"no PostgreSQL: {exc}")

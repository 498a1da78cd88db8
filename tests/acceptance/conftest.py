"""Installations for tests of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """One that is not running yet; ended in any case."""
    made = Installation(tmp_path / "stoker")
    try:
        yield made
    finally:
        made.close()

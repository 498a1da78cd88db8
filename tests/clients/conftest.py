"""The clients' environments for tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clients import environments


@pytest.fixture(scope="session")
def client_python() -> Callable[[str], Path]:
    """The Python of a client's environment, by name (`exoscale-0.16.4`). Without: skipped on a laptop, failed in CI."""

    def find(name: str) -> Path:
        try:
            return environments.interpreter(name)
        except environments.NoClient as exc:
            if os.environ.get("CI"):
                pytest.fail(f"no client {name}: {exc}")
            pytest.skip(f"no client {name}: {exc}")

    return find

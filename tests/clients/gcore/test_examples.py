"""The vendor's own example programs, unmodified, against a real Stoker."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from clients import environments
from clients.gcore.running import Stoker

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


@pytest.fixture(scope="session")
def examples() -> Path:
    """The vendor's own programs, which only the source of the package has."""
    try:
        return environments.source("gcore-0.59.0") / "examples" / "cloud"
    except environments.NoClient as exc:
        if os.environ.get("CI"):
            pytest.fail(f"no source of gcore: {exc}")
        pytest.skip(f"no source of gcore: {exc}")


@pytest.mark.parametrize("program", ["inference.py", "inference_async.py"])
def test_the_vendors_example_runs_to_its_end(
    stoker: Stoker, client_python: Callable[[str], Path], examples: Path, program: str
) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "GCORE_API_KEY": stoker.key,
        "GCORE_BASE_URL": stoker.url,
        "GCORE_CLOUD_PROJECT_ID": "1",
        "GCORE_CLOUD_REGION_ID": "1",
        "GCORE_CLOUD_INFERENCE_FLAVOR_NAME": "inference-1vcpu-4gib",
    }
    # A sibling of it is called `secrets`, as a module of the standard library is.
    command = [str(client_python("gcore-0.59.0")), "-P", str(examples / program)]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, ended.stdout[-2_000:] + ended.stderr[-2_000:]

"""The vendor's own example programs, unmodified, against a real Stoker."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.gcore.running import Stoker

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vendor's own programs, which only the source of the package has."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "source.txt").write_text(
        "gcore==0.59.0 --hash=sha256:f6c2b452900fac3d779c679ae8d6cf3d19bbf4094e7fab0c5856989d56a09fc8\n"
    )
    options = ["--quiet", "--no-deps", "--no-binary", "gcore", "--require-hashes", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(folder / "source.txt")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if ended.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"no source of gcore: {ended.stderr[-1_000:]}")
        pytest.skip("no source of gcore")
    with tarfile.open(next(folder.glob("gcore-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("gcore-0.59.0")) / "examples" / "cloud"


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
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stdout[-2_000:] + ended.stderr[-2_000:]

"""The clients that tests use are the packages themselves, pinned with hashes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from clients import environments


@pytest.mark.parametrize("name", environments.names())
def test_an_environment_has_the_version_that_its_name_says(name: str, client_python: Callable[[str], Path]) -> None:
    package, _, version = name.rpartition("-")
    program = f"from importlib.metadata import version; print(version({package!r}))"
    ended = subprocess.run(
        [client_python(name), "-I", "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.strip() == version


def test_every_requirement_is_pinned_with_its_hashes() -> None:
    for name in environments.names():
        text = (environments.REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
        lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.strip().startswith("#")]
        assert lines, name
        assert all("==" in line and "--hash=sha256:" in line for line in lines), name


def test_a_client_that_nobody_pinned_is_told() -> None:
    with pytest.raises(environments.NoClient, match=r"requirements/clients/nobody-1\.txt"):
        environments.interpreter("nobody-1")

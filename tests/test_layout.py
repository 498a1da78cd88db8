"""How the parts may hang together: who may import whom, and what the data plane must not load."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("fastapi", "starlette", "sqlalchemy", "pydantic", "aiohttp", "alembic", "uvicorn", "ruamel")

DIALECTS = [f"stoker.dialects.{path.parent.name}" for path in (ROOT / "src/stoker/dialects").glob("*/__init__.py")]


def test_imports_go_downwards_only(tmp_path: Path) -> None:
    command = shutil.which("lint-imports", path=sysconfig.get_path("scripts"))
    assert command is not None, "import-linter belongs to the tests"
    ended = subprocess.run(
        [command, "--config", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout


def loaded_by(module: str) -> set[str]:
    program = f"import sys, {module}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(ended.stdout.split())


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        pytest.param("stoker.gateway.main", HEAVY, id="the gateway"),
        pytest.param("stoker.supervisor", (*HEAVY, "msgspec", "structlog", "uvloop"), id="the supervisor"),
        pytest.param("stoker.providers.shim", (*HEAVY, "msgspec", "structlog", "stoker.domain"), id="the shim"),
        pytest.param("stoker.cli.main", (*HEAVY, "msgspec", "uvloop"), id="the command line"),
        pytest.param(", ".join(DIALECTS), ("fastapi", "pydantic"), id="dialects before their first request"),
    ],
)
def test_a_process_that_must_be_light_loads_nothing_heavy(module: str, forbidden: tuple[str, ...]) -> None:
    assert loaded_by(module) & set(forbidden) == set()


def test_no_part_is_a_grab_bag() -> None:
    names = {path.stem for path in (ROOT / "src").rglob("*.py")}
    assert names & {"utils", "util", "helpers", "common", "misc", "core"} == set()

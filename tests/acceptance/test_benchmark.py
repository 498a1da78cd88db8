"""The storm of the gateway's benchmark, shorter than by hand: real roles, real workers, real signals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def test_nothing_is_lost_while_workers_and_control_are_killed() -> None:
    command = [sys.executable, str(ROOT / "bench" / "gateway.py"), "chaos", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = json.loads(done.stdout)["parts"]
    assert found["broken"] == []
    counts = {row["name"]: row["figures"]["count"] for row in found["rows"]}
    assert counts["posts, complete and right"] > 100
    assert counts["done: kill worker"] >= 1
    assert counts["done: kill control"] >= 1

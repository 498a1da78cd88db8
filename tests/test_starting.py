"""How the process of a role comes to be that role."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROLE = """
import gc, sys
imported_with = gc.isenabled()
def main():
    print(imported_with, gc.isenabled(), gc.get_freeze_count() > 1_000, sys.argv[1:])
    return 3
"""


def test_a_role_is_imported_without_the_collector_and_runs_with_it_and_its_exit_status_is_the_processs(
    tmp_path: Path,
) -> None:
    (tmp_path / "role.py").write_text(ROLE)
    ended = subprocess.run(
        [sys.executable, "-m", "stoker.starting", "role", "--fd", "5"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout.strip()) == (3, "False True True ['--fd', '5']"), ended.stderr

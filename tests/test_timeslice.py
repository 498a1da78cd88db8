"""Short slices of CPU time, as the kernel confirms them, in a process of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_LINUX = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")


def _run(lines: str) -> list[str]:
    code = f"import os\nfrom stoker.timeslice import ask_for_short_slices, slice_s\n{lines}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.split()


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])


@pytest.mark.skipif(not _LINUX or _kernel() < (6, 12), reason="the kernel gives no slices that are asked for")
def test_a_process_gets_the_slice_that_it_asks_for_and_keeps_its_niceness() -> None:
    said = _run("os.nice(3)\nprint(ask_for_short_slices(0.0005), slice_s(), os.nice(0))")
    assert said == ["None", "0.0005", "3"]


@pytest.mark.skipif(not _LINUX, reason="elsewhere nothing is asked")
def test_a_process_with_a_policy_of_its_own_keeps_it() -> None:
    said = _run(
        "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))\n"
        "print(ask_for_short_slices() is not None, os.sched_getscheduler(0) == os.SCHED_BATCH)"
    )
    assert said == ["True", "True"]


def test_where_it_cannot_be_asked_for_that_is_said_and_nothing_else_happens() -> None:
    said = _run(
        "import platform\nplatform.machine = lambda: 'z80'\nprint(ask_for_short_slices() is not None, slice_s())"
    )
    assert said == ["True", "None"]

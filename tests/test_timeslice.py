"""Short slices of CPU time, as the kernel confirms them, in a process of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_LINUX = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")

_BEGIN = """
import ctypes, os, platform
from stoker.timeslice import _ATTR, _CALLS, ask_for_short_slices

def slice_s():
    attr = ctypes.create_string_buffer(_ATTR.size)
    assert ctypes.CDLL(None).syscall(_CALLS[platform.machine()][1], 0, attr, _ATTR.size, 0) == 0
    return _ATTR.unpack(attr.raw)[5] / 1e9

"""


def _run(lines: str) -> list[str]:
    code = _BEGIN + lines
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])


@pytest.mark.skipif(not _LINUX or _kernel() < (6, 12), reason="the kernel gives no slices that are asked for")
def test_a_process_gets_the_slice_that_it_asks_for_and_keeps_its_niceness() -> None:
    said = _run("nice = os.nice(3)\nprint(ask_for_short_slices(0.0005), slice_s(), os.nice(0) - nice)")
    assert said == ["None", "0.0005", "0"]


@pytest.mark.skipif(not _LINUX, reason="elsewhere nothing is asked")
def test_a_process_with_a_policy_of_its_own_keeps_it() -> None:
    said = _run(
        "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))\n"
        "print(ask_for_short_slices() is not None, os.sched_getscheduler(0) == os.SCHED_BATCH)"
    )
    assert said == ["True", "True"]


@pytest.mark.skipif(not _LINUX, reason="there is no slice to be looked at")
def test_where_it_cannot_be_asked_for_that_is_said_and_nothing_else_happens() -> None:
    said = _run(
        "before = slice_s()\nreal = platform.machine()\nplatform.machine = lambda: 'z80'\n"
        "said = ask_for_short_slices()\nplatform.machine = lambda: real\n"
        "print(said is not None, slice_s() == before)"
    )
    assert said == ["True", "True"]

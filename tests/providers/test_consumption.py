"""What processes take: whole trees, real ones, and cards as NVML tells."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from stoker.domain.worker import WorkerId
from stoker.providers.consumption import taken

W = WorkerId("w")
# A child that burns some CPU and holds 50 MiB, and says so.
CHILD = (
    "x = b'x' * (50 << 20)\nfor _ in range(3_000_000): pass\nprint('ready', flush=True)\nimport time; time.sleep(60)"
)


class FakeError(Exception):
    pass


class FakeNvml:
    """Three cards; the second does not answer, the third does not say how busy it is."""

    NVMLError: type[Exception] = FakeError

    def __init__(self, *, driver: bool = True) -> None:
        self._driver = driver
        self.open = 0

    def nvmlInit(self) -> None:
        if not self._driver:
            raise FakeError
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        if index == 1:
            raise FakeError
        return index

    def nvmlDeviceGetUUID(self, handle: Any) -> str | bytes:
        return f"GPU-{handle}".encode()

    def nvmlSystemGetDriverVersion(self) -> str | bytes:
        return "1"

    def nvmlDeviceGetMigMode(self, handle: Any) -> Any:
        raise FakeError

    def nvmlDeviceGetName(self, handle: Any) -> str | bytes:
        return "NVIDIA H100"

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        return SimpleNamespace(total=100, used=10 + handle)

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        if handle == 2:
            raise FakeError
        return SimpleNamespace(gpu=40, memory=25)


@contextlib.contextmanager
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")
def test_a_tree_is_counted_whole_and_its_root_is_not() -> None:
    nvml = FakeNvml()
    with child() as process:
        found = taken({W: os.getpid(), WorkerId("gone"): 2**22 + 1, WorkerId("leaf"): process.pid}, {}, nvml)
    assert set(found) == {W}, "below the other two nothing runs"
    assert found[W].cpu_s > 0
    assert found[W].memory_bytes > 50 << 20
    assert (found[W].gpus, nvml.open) == ((), 0)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")
def test_cards_tell_how_busy_and_how_full_they_are_or_nothing() -> None:
    nvml = FakeNvml()
    with child():
        found = taken({W: os.getpid()}, {W: ("GPU-0", "GPU-1", "GPU-2", "virtual-0")}, nvml)
        without = taken({W: os.getpid()}, {W: ("GPU-0",)}, FakeNvml(driver=False))
    assert [(gpu.id, gpu.utilization, gpu.memory_utilization, gpu.memory_bytes) for gpu in found[W].gpus] == [
        ("GPU-0", 0.4, 0.25, 10),
        ("GPU-2", None, None, 12),
    ]
    assert without[W].gpus == ()
    assert nvml.open == 0

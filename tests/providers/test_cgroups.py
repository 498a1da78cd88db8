"""Limits of control groups, of both versions, of this process's group and of those above it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stoker.providers import cgroups


def groups(tmp_path: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    root = tmp_path / "cgroup"
    root.mkdir()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "own").write_text(own)
    return root, tmp_path / "own"


@pytest.mark.parametrize(
    ("own", "files", "cpus", "memory"),
    [
        pytest.param("0::/", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, None, None, id="no limits"),
        pytest.param("0::/", {}, None, None, id="no files"),
        pytest.param("", {"cpu.max": "150000 100000\n", "memory.max": "1024\n"}, 1.5, 1024, id="a container"),
        pytest.param("0::/a/b", {"a/b/memory.max": "9", "a/b/cpu.max": "200000 100000"}, 2.0, 9, id="own group"),
        pytest.param(
            "0::/a/b",
            {"a/memory.max": "7", "a/b/memory.max": "9", "a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"},
            0.5,
            7,
            id="the group above is stricter",
        ),
        pytest.param("0::/a", {"a/memory.high": "5", "a/memory.max": "max"}, None, 5, id="throttled before the end"),
        pytest.param(
            "4:memory:/d\n3:cpu,cpuacct:/d",
            {
                "memory/d/memory.limit_in_bytes": "11",
                "cpu,cpuacct/d/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/d/cpu.cfs_period_us": "100000",
            },
            3.0,
            11,
            id="the first version",
        ),
        pytest.param(
            "3:cpu:/",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
            None,
            id="the first version without limits",
        ),
        pytest.param("0::/../../x", {"cpu.max": "nonsense", "memory.max": "-1"}, None, None, id="nonsense"),
    ],
)
def test_the_strictest_limit_counts(
    tmp_path: Path, own: str, files: dict[str, str], cpus: float | None, memory: int | None
) -> None:
    root, own_file = groups(tmp_path, own, files)
    assert cgroups.cpus(root, own_file) == cpus
    assert cgroups.memory_bytes(root, own_file) == memory


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert cgroups.cpus(tmp_path / "none", tmp_path / "none") is None
    assert cgroups.memory_bytes(tmp_path / "none", tmp_path / "none") is None

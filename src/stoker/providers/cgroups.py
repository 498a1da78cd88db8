"""How much of the machine this process may use, as the kernel tells: the limits of a container or a service.

Read by the inventory of the process provider, whose workers live in the same groups. A file that is missing limits
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cpus(root: Path = ROOT, own: Path = OWN) -> float | None:
    """The processors' worth of time that may be used; `None` when it is not limited."""
    limits = [
        quota / period
        for folder in _folders(root, own, "cpu")
        if (found := _quota(folder)) is not None
        for quota, period in [found]
        if quota > 0 and period > 0
    ]
    return min(limits, default=None)


def memory_bytes(root: Path = ROOT, own: Path = OWN) -> int | None:
    """The memory that may be used; `None` when it is not limited."""
    limits: list[int] = []
    for folder in _folders(root, own, "memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            [limit] = _numbers(folder / name, 1) or [0]
            if limit > 0:
                limits.append(limit)
    return min(limits, default=None)


def _folders(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's group and of all above it, in both versions of control groups."""
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    # A container that sees its own group as the root finds its limits there.
    yield root
    yield root / controller
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controllers if controllers else root
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(1, len(parts) + 1):
            yield base.joinpath(*parts[:depth])


def _quota(folder: Path) -> tuple[int, int] | None:
    """Microseconds of processor time within so many; `max` and -1 are no limit."""
    found = _numbers(folder / "cpu.max", 2)
    if found is not None:
        return found[0], found[1]
    quota, period = _numbers(folder / "cpu.cfs_quota_us", 1), _numbers(folder / "cpu.cfs_period_us", 1)
    return None if quota is None or period is None else (quota[0], period[0])


def _numbers(path: Path, count: int) -> list[int] | None:
    try:
        words = path.read_text(encoding="ascii", errors="replace").split()
        return [int(word) for word in words] if len(words) == count else None
    except (OSError, ValueError):
        return None

"""What was measured of a worker: what its engine says, and what it takes of its machine. Pure data.

Everything may be unknown, which is `None` or absent, and is old after a while: `at` says of when it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.domain.worker import WorkerId

# Workers are measured every five seconds: what is older than this has missed two.
STALE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMetrics:
    """What a worker's engine said of itself. `values` has what it said in words that are the same for all engines:
    `running` and `waiting` requests, `cache_usage` (0 to 1), `prompt_tokens` and `completion_tokens` since its start.
    `error`: why the last try brought nothing; `values` are then those of `at`, the last one that did.
    """

    at: float | None
    values: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLoad:
    """One card at a moment. `utilization` is how long it was busy, `memory_utilization` how long its memory was, both
    between 0 and 1.
    """

    id: str
    utilization: float | None
    memory_bytes: int
    memory_total_bytes: int
    memory_utilization: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a provider counted of one worker: CPU seconds since its start, memory now, and its cards."""

    cpu_s: float
    memory_bytes: int
    gpus: tuple[GpuLoad, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a worker takes of its machine. `cpus`: on how many processors it was busy on average since the measurement
    before.
    """

    at: float
    cpus: float | None
    memory_bytes: int
    gpus: tuple[GpuLoad, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All that was measured of one worker. `None`: nothing ever was."""

    worker: WorkerId
    engine: EngineMetrics | None = None
    resources: Resources | None = None

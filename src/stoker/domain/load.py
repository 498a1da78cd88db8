"""Load: work in an endpoint's own unit, as requests announce it and workers report it. Frozen values.

A request has a cost, a worker a perf: the load that it can do in a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stoker.domain.endpoint import EndpointId
from stoker.domain.errors import Invalid
from stoker.domain.reservation import ReservationId
from stoker.domain.worker import WorkerId

# What one request costs, and what a worker without a benchmark does in a second for each of its slots.
USUAL = 100.0
COST_MAX = 1_000_000_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkReport:
    """What a worker says of itself. `load` is in progress, `received` and `served` are since its report before;
    `perf` is `None` until it has measured it. `requests` are the numbers of those in progress. `error`: it has failed.
    """

    at: float
    loaded: bool
    load_s: float | None = None
    perf: float | None = None
    load: float = 0.0
    received: float = 0.0
    served: float = 0.0
    working: int = 0
    requests: tuple[int, ...] = ()
    disk_gib: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """From `since` on (seconds since the epoch) a worker on up to `workers` machines is to measure its perf before load
    alone decides.
    """

    workers: int
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A request that is to come. It waits until it has a worker (`worker`, `reservation`), and is asked for again
    under its `number`, the last time at `asked_at`.
    """

    number: int
    endpoint: EndpointId
    cost: float
    at: float
    asked_at: float
    worker: WorkerId | None = None
    reservation: ReservationId | None = None


def check_cost(cost: float) -> None:
    """Raises `Invalid` at what cannot be."""
    if not (math.isfinite(cost) and 0 <= cost <= COST_MAX):
        raise Invalid.at("/cost", f"cost must be between 0 and {COST_MAX:g}")

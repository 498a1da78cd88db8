"""What a pass knows and may ask, put together by the reconciler: nothing in it changes while the pass runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from stoker.domain.endpoint import PoolSpec
from stoker.domain.hardware import Placement
from stoker.domain.models import Hold
from stoker.domain.operation import Decision
from stoker.domain.probe import Probes
from stoker.domain.worker import Worker, WorkerId
from stoker.policy.eviction import Idle
from stoker.policy.lifecycle import Sight
from stoker.policy.placement import Unplaceable
from stoker.policy.scaling import Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a pass knows besides the endpoint and its workers. `probes` has those of each worker's own revision, `tails`
    the last output of workers that ended, `frees` what a worker lets go of when it is kept cold.

    `makes_way`: workers that should make room for another endpoint, and why. `residence_s` is how long a worker is at
    least ready before it makes room; `None`: none ever does. `hold`: why no worker may start now. `closing`: all
    workers are to go; `hurried`: without waiting for their requests. `decision` is how many there should be; it was
    `recorded` before where nothing in it is new.
    """

    now: float
    probes: Mapping[WorkerId, Probes]
    sights: Mapping[WorkerId, Sight]
    settled: Collection[WorkerId]
    ready: Collection[WorkerId]
    unhealthy: Mapping[WorkerId, str]
    unready: Mapping[WorkerId, str]
    refused: Mapping[WorkerId, str]
    drained: Collection[WorkerId]
    loads: Mapping[WorkerId, int]
    signals: Signals | None
    decision: Decision
    recorded: bool
    tails: Mapping[WorkerId, str]
    frees: Mapping[WorkerId, tuple[str, ...]]
    makes_way: Mapping[WorkerId, str]
    residence_s: float | None
    hold: Hold | None
    closing: bool
    hurried: bool

    def leaving(self, worker: Worker) -> str:
        """Why its provider says that it should serve no more; nothing when that is not so."""
        sight = self.sights.get(worker.id)
        if sight is None or sight.observed is None:
            return ""
        # A list of before may show how it was kept cold.
        stale = worker.from_cold and worker.ready_at is not None and sight.begun_at <= worker.ready_at
        return "" if stale else sight.observed.leaving


class Place(Protocol):
    """(worker, its pool) -> a placement, reserved, or why there is none. `without` are workers to leave out of the
    account; hosts with large numbers in `avoid` come last.
    """

    def __call__(
        self,
        worker: WorkerId,
        pool: PoolSpec,
        *,
        without: frozenset[WorkerId] = ...,
        avoid: Mapping[str, int] | None = ...,
    ) -> Placement | Unplaceable: ...


# (cold worker) -> its whole placement again, reserved, or why it cannot have it.
Regain = Callable[[Worker], Placement | Unplaceable]
# (pool) -> idle workers of other endpoints whose end makes room for one of it; empty where that helps nothing, or where
# room is being made already.
MakeRoom = Callable[[PoolSpec], tuple[Idle, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a pass may ask about hosts."""

    place: Place
    regain: Regain
    make_room: MakeRoom

"""What to do next so that an endpoint has the workers it should have: a pure function from facts to actions.

Called by control's reconciler in every pass. Applying the actions and planning again converges: an empty plan means
that nothing is left to do. A worker is never stopped here before it was drained, unless it never took a request.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from stoker.domain.endpoint import Endpoint, Failures, Phase
from stoker.domain.worker import WANTED, Worker, WorkerId, WorkerState

# One second after the first failed start, doubling: fast enough to ride out a port taken or a slow disk, slow enough
# not to burn a machine on a command that cannot work.
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 300.0
# After this many failed starts in a row requests are refused instead of held.
FAILURES_BEFORE_REFUSAL = 3


@dataclass(frozen=True, slots=True)
class Start:
    """Record and start this many workers of the present revision."""

    count: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Give this worker no new requests, and stop it when it has finished those it has."""

    worker: WorkerId
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask for the end of this worker."""

    worker: WorkerId
    reason: str


Action = Start | Drain | Stop


def retry_at(failures: Failures) -> float | None:
    """When the next start may be tried after failed ones; `None` when at once."""
    if failures.count == 0 or failures.last_at is None:
        return None
    return failures.last_at + min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures.count - 1, 32))


def plan(
    endpoint: Endpoint,
    workers: Sequence[Worker],
    *,
    loads: Mapping[WorkerId, int],
    drained: Collection[WorkerId],
    now: float,
    workers_wanted: int | None = None,
    yield_hardware: bool = False,
) -> tuple[Action, ...]:
    """The next actions for `endpoint`, whose workers that are not gone are `workers`.

    `loads` has requests in flight by worker, as far as known. `drained` are workers of which the gateway has confirmed
    that they have none left and will get none. `workers_wanted` replaces the endpoint's desired number (shutting down).
    `yield_hardware` says that a new worker would fit if an old one made room for it.
    """
    wanted = endpoint.desired if workers_wanted is None else workers_wanted
    if endpoint.phase is not Phase.ACTIVE:
        wanted = 0
    current = [w for w in workers if w.state in WANTED and w.revision == endpoint.revision]
    old = [w for w in workers if w.state in WANTED and w.revision != endpoint.revision]
    leaving = _leaving(
        current, old, wanted=wanted, surge=endpoint.spec.rollout.surge, loads=loads, yield_hardware=yield_hardware
    )
    actions: list[Action] = [_leave(worker, reason) for worker, reason in leaving]
    actions += _stops(workers, drained=drained, now=now)
    starts = _starts(endpoint, len(current), len(old), wanted=wanted, now=now)
    if starts > 0:
        actions.append(Start(starts))
    return tuple(actions)


def _starts(endpoint: Endpoint, current: int, old: int, *, wanted: int, now: float) -> int:
    earliest = retry_at(endpoint.failures)
    if earliest is not None and now < earliest:
        return 0
    missing = wanted - current
    if endpoint.failures.count > 0:
        # One probe of a launch that failed, not a whole pool of them.
        missing = min(missing, 1)
    room = wanted + endpoint.spec.rollout.surge - current - old if old else missing
    return max(0, min(missing, room))


def _leaving(
    current: list[Worker],
    old: list[Worker],
    *,
    wanted: int,
    surge: int,
    loads: Mapping[WorkerId, int],
    yield_hardware: bool,
) -> list[tuple[Worker, str]]:
    leaving = [(w, "fewer workers wanted") for w in _victims(current, len(current) - wanted, loads)]
    ready = sum(1 for w in current if w.state is WorkerState.READY)
    # Old workers stay until new ones are ready in their place; those that are not ready themselves serve nobody.
    unready = [w for w in old if w.state is not WorkerState.READY]
    serving = [w for w in old if w.state is WorkerState.READY]
    leaving += [(w, "replaced by a new revision") for w in unready]
    excess = len(serving) - max(0, wanted - ready)
    if yield_hardware and serving:
        excess = max(excess, 1)
    leaving += [(w, "replaced by a new revision") for w in _victims(serving, excess, loads)]
    return leaving


def _victims(workers: list[Worker], count: int, loads: Mapping[WorkerId, int]) -> list[Worker]:
    """Starting ones first, then idle ones, then the least loaded; the newest among equals."""
    rank = {WorkerState.PENDING: 0, WorkerState.STARTING: 1, WorkerState.COLD: 2}
    order = sorted(workers, key=lambda w: (rank.get(w.state, 3), loads.get(w.id, 0), -w.number))
    return order[: max(0, count)]


def _leave(worker: Worker, reason: str) -> Action:
    if worker.state in (WorkerState.PENDING, WorkerState.STARTING):
        return Stop(worker.id, reason)
    return Drain(worker.id, reason)


def _stops(workers: Sequence[Worker], *, drained: Collection[WorkerId], now: float) -> list[Action]:
    stops: list[Action] = []
    for worker in workers:
        if worker.state is not WorkerState.DRAINING:
            continue
        if worker.id in drained:
            stops.append(Stop(worker.id, worker.reason or "drained"))
        elif worker.drain_deadline is not None and now >= worker.drain_deadline:
            stops.append(Stop(worker.id, f"{worker.reason or 'drained'}; its time to finish requests was over"))
    return stops

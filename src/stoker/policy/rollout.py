"""What to do next so that an endpoint has the workers it should have: a pure function from facts to actions.

Called by control's reconciler in every pass. Applying the actions and planning again converges: an empty plan means
that nothing is left to do. A worker is never stopped here before it was drained, unless it never took a request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from stoker.domain.endpoint import Endpoint, Phase, PoolSpec, Strategy
from stoker.domain.worker import ACTIVE, WANTED, Worker, WorkerId, WorkerState
from stoker.policy.backoff import caps, trying
from stoker.policy.pools import distribute, serves_soon, victims


@dataclass(frozen=True, slots=True)
class Start:
    """Record and start this many workers of the present revision in this pool."""

    pool: str
    count: int


@dataclass(frozen=True, slots=True)
class Warm:
    """Make this cold worker run again."""

    worker: WorkerId


@dataclass(frozen=True, slots=True)
class Drain:
    """Give this worker no new requests, and when it has finished those it has, stop it or (`chill`) keep it cold."""

    worker: WorkerId
    reason: str
    chill: bool = False


@dataclass(frozen=True, slots=True)
class Chill:
    """This worker has no requests and is to be kept cold."""

    worker: WorkerId


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask for the end of this worker."""

    worker: WorkerId
    reason: str


Action = Start | Warm | Drain | Chill | Stop
_FEWER = "fewer workers wanted"
_REPLACED = "replaced by a new revision"


def plan(
    endpoint: Endpoint,
    workers: Sequence[Worker],
    *,
    loads: Mapping[WorkerId, int],
    drained: Collection[WorkerId],
    now: float,
    closing: bool = False,
    may_start: bool = True,
    yield_hardware: bool = False,
    held: int = 0,
) -> tuple[Action, ...]:
    """The next actions for `endpoint`, whose workers that are not gone are `workers`.

    `loads` has requests in flight by worker, as far as known. `drained` are workers of which the gateway has confirmed
    that they have none left and will get none. `closing`: nothing is wanted any more. Unless `may_start`, none does.
    `yield_hardware` says that a new worker would fit if an old one made room for it. `held` is how many should be
    ready or cold, where that is more than the pools' floors.
    """
    on = endpoint.phase is Phase.ACTIVE and not closing
    wanted = endpoint.desired if on else 0
    floors = _floors(endpoint.spec.pools, held) if on else {pool.name: 0 for pool in endpoint.spec.pools}
    running = [w for w in workers if endpoint.runs(w.pool, w.revision)]
    active = [w for w in running if w.state in ACTIVE]
    old = [w for w in workers if w.state in WANTED and not endpoint.runs(w.pool, w.revision)]
    # Ready or cold, now or soon: what the pools' floors are about.
    kept = Counter(w.pool for w in running if w.state in WANTED or (w.state is WorkerState.DRAINING and w.chilling))
    cold = [w for w in running if w.state is WorkerState.COLD]
    # A cold one is back before one that starts, even if that has begun before.
    warm = _warm(endpoint, cold, max(0, wanted - sum(1 for w in active if serves_soon(w))))
    # Those that had no room the last time are tried again, and nobody counts on them.
    back = sum(1 for w in warm if not w.reason)
    leaving = victims(active, endpoint.spec.pools, wanted=wanted - back, loads=loads)
    actions = _shrink(leaving, kept, floors)
    ready = sum(1 for w in active if w.state is WorkerState.READY and w not in leaving)
    recreate = endpoint.spec.rollout.strategy is Strategy.RECREATE
    keep = 0 if recreate else max(0, wanted - ready)
    actions += _replace(old, loads, keep=keep, yield_hardware=yield_hardware)
    actions += _drained(workers, drained=drained, now=now)
    missing = max(0, wanted - len(active) + len(leaving))
    actions += [Warm(w.id) for w in warm]
    actions += _surplus([w for w in cold if w not in warm], kept, floors)
    room = wanted + endpoint.spec.rollout.surge - len(active) - back - len(old) if old else missing
    have = Counter(w.pool for w in (*active, *warm) if w not in leaving)
    tried = trying(active)
    most = {pool: 0 if pool in tried else n for pool, n in caps(endpoint.failures, now=now).items()}
    starts = distribute(max(0, min(missing - back, room)), endpoint.spec.pools, have, most)
    if not old:
        # What single pools lack though there are enough workers in all; during an update the surge is the limit.
        minima = {p.name: p.bounds.min if endpoint.spec.bounds.min <= wanted else 0 for p in endpoint.spec.pools}
        starts = {p: max(n, minima[p] - have[p], floors[p] - kept[p]) for p, n in starts.items()}
    waits = recreate and any(not w.gone and not endpoint.runs(w.pool, w.revision) for w in workers)
    return tuple(actions) if waits or not may_start else (*actions, *_starts(starts, most))


def _floors(pools: Sequence[PoolSpec], held: int) -> dict[str, int]:
    """How many of each pool are to be ready or cold: what is above all floors in the pools' order."""
    floors = {pool.name: pool.bounds.cold for pool in pools}
    more = held - sum(floors.values())
    for pool in pools:
        taken = max(0, min(more, pool.bounds.max - floors[pool.name]))
        floors[pool.name] += taken
        more -= taken
    return floors


def _shrink(leaving: Sequence[Worker], held: Counter[str], floors: Mapping[str, int]) -> list[Action]:
    """Of those that are one too many some may be what their pool's floor asks for. Takes the others out of `held`."""
    actions: list[Action] = []
    for worker in leaving:
        if held[worker.pool] > floors[worker.pool]:
            held[worker.pool] -= 1
            actions.append(_leave(worker, _FEWER))
        elif worker.state is WorkerState.READY:
            actions.append(Drain(worker.id, "kept cold", chill=True))
    return actions


def _warm(endpoint: Endpoint, cold: Sequence[Worker], missing: int) -> list[Worker]:
    """Cold workers are made warm before others are started: in the order of pools, the oldest first."""
    place = {pool.name: index for index, pool in enumerate(endpoint.spec.pools)}
    return sorted(cold, key=lambda w: (place[w.pool], w.number))[:missing]


def _surplus(resting: Sequence[Worker], held: Counter[str], floors: Mapping[str, int]) -> list[Action]:
    actions: list[Action] = []
    for worker in sorted(resting, key=lambda w: -w.number):
        if held[worker.pool] > floors[worker.pool]:
            held[worker.pool] -= 1
            actions.append(Stop(worker.id, "more cold workers than wanted"))
    return actions


def _starts(lacking: Mapping[str, int], most: Mapping[str, int]) -> list[Action]:
    counts = {pool: min(count, most.get(pool, count)) for pool, count in lacking.items()}
    return [Start(pool, count) for pool, count in counts.items() if count > 0]


def _replace(old: Sequence[Worker], loads: Mapping[WorkerId, int], *, keep: int, yield_hardware: bool) -> list[Action]:
    """Old workers stay until new ones are ready in their place; those that are not ready themselves serve nobody."""
    serving = [w for w in old if w.state is WorkerState.READY]
    excess = len(serving) - keep
    if yield_hardware and serving:
        excess = max(excess, 1)
    # The least loaded first, and the newest among equals.
    order = sorted(serving, key=lambda w: (loads.get(w.id, 0), -w.number))
    leaving = [w for w in old if w.state is not WorkerState.READY] + order[: max(0, excess)]
    return [_leave(worker, _REPLACED) for worker in leaving]


def _leave(worker: Worker, reason: str) -> Action:
    if worker.state is WorkerState.READY:
        return Drain(worker.id, reason)
    return Stop(worker.id, reason)


def _drained(workers: Sequence[Worker], *, drained: Collection[WorkerId], now: float) -> list[Action]:
    actions: list[Action] = []
    for worker in workers:
        if worker.state is not WorkerState.DRAINING:
            continue
        if worker.id in drained:
            actions.append(Chill(worker.id) if worker.chilling else Stop(worker.id, worker.reason or "drained"))
        elif worker.drain_deadline is not None and now >= worker.drain_deadline:
            actions.append(Stop(worker.id, f"{worker.reason or 'drained'}; its time to finish requests was over"))
    return actions

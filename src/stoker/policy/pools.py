"""Which of an endpoint's pools gains a worker, and which loses one. Pure; called by the plan of a pass.

Pools are filled in the order in which the spec has them, after each has its minimum, and emptied in the reverse order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from stoker.domain.endpoint import PoolSpec
from stoker.domain.worker import Worker, WorkerId, WorkerState


def distribute(
    count: int, pools: Sequence[PoolSpec], have: Mapping[str, int], most: Mapping[str, int] | None = None
) -> dict[str, int]:
    """How many of `count` new workers go to each pool, which has `have` already and takes no more than `most`.

    Minima first, then the first pool with room. What is above all maxima (a number set by hand) goes to the first pool
    that takes any number.
    """
    most = most or {}
    beyond = max(0, count + sum(have.get(pool.name, 0) for pool in pools) - sum(pool.bounds.max for pool in pools))
    given = dict.fromkeys((pool.name for pool in pools), 0)
    for limit in ("min", "max"):
        for pool in pools:
            room = getattr(pool.bounds, limit) - have.get(pool.name, 0) - given[pool.name]
            limited = most[pool.name] - given[pool.name] if pool.name in most else count
            taken = max(0, min(count, room, limited))
            given[pool.name] += taken
            count -= taken
    first = next((pool.name for pool in pools if pool.name not in most), None)
    if first is not None:
        given[first] += min(count, beyond)
    elif (probed := next((pool.name for pool in pools if most[pool.name] > given[pool.name]), None)) is not None:
        given[probed] += min(count, beyond, most[probed] - given[probed])
    return given


def victims(
    workers: Sequence[Worker], pools: Sequence[PoolSpec], *, wanted: int, loads: Mapping[WorkerId, int]
) -> list[Worker]:
    """Which of these workers go so that `wanted` are left and no pool has more than its maximum.

    Pending ones first, then starting, then those that come back from cold, then idle ones, then the least loaded; among
    equals those of the last pool, then the newest. No pool falls below its minimum while another one is above its own,
    and while starting workers of such a pool are waited for no ready one goes that is needed until then.
    """
    place = {pool.name: index for index, pool in enumerate(pools)}
    bounds = {pool.name: pool.bounds for pool in pools}
    order = sorted(workers, key=lambda w: (_rank(w), loads.get(w.id, 0), -place[w.pool], -w.number))
    have = Counter(w.pool for w in workers)
    ready = sum(1 for w in workers if serves_soon(w))
    leaving: list[Worker] = []

    def take(worker: Worker) -> None:
        nonlocal ready
        leaving.append(worker)
        have[worker.pool] -= 1
        ready -= serves_soon(worker)

    total = sum(b.max for b in bounds.values())
    for worker in order:
        if wanted <= total and have[worker.pool] > bounds[worker.pool].max:
            take(worker)
    minima_fit = sum(b.min for b in bounds.values()) <= wanted
    for worker in order:
        if len(workers) - len(leaving) <= wanted:
            break
        protected = minima_fit and have[worker.pool] <= bounds[worker.pool].min
        needed = serves_soon(worker) and ready <= wanted
        if worker not in leaving and not protected and not needed:
            take(worker)
    return leaving


def serves_soon(worker: Worker) -> bool:
    """Is it ready, or on its way back from cold, which takes a moment and not a start?"""
    return worker.state is WorkerState.READY or (worker.state is WorkerState.STARTING and worker.from_cold)


def _rank(worker: Worker) -> int:
    if worker.state is WorkerState.PENDING:
        return 0
    return 1 if not serves_soon(worker) else 2 if worker.state is WorkerState.STARTING else 3


def pools_for(
    worker: Worker, pools: Sequence[PoolSpec], have: Mapping[str, int], *, rests: Collection[str]
) -> list[PoolSpec]:
    """Where this pending worker may go, in the order of trying: in its own pool where that needs it, else in the first
    that has room and does not rest after failed starts. `have` are the workers of each pool that count as capacity,
    this one included.
    """
    own = [pool for pool in pools if pool.name == worker.pool]
    if own and have.get(worker.pool, 0) <= max(own[0].bounds.min, own[0].bounds.cold):
        return own
    room = [p for p in pools if p.name not in rests and (p in own or have.get(p.name, 0) < p.bounds.max)]
    return room or own

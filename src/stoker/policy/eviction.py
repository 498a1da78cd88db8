"""Which idle workers make room when a request waits and nothing fits: one GPU serves many endpoints by swapping. Pure.

Called by control's passes, once for the endpoint that lacks room and once more for the one that is to give some, since
a request may have come in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stoker.domain.endpoint import Endpoint, EndpointId, Phase
from stoker.domain.worker import WANTED, Worker, WorkerId, WorkerState
from stoker.policy.scaling import Signals

# Rooms are tried worker by worker, the least recently used first; beyond this many the rest is not looked at.
CANDIDATES_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A worker that could go. `idle_s` is how long its endpoint has had no request, or (with others of the endpoint
    busy) 0; `resident_s` how long the worker has been ready.
    """

    worker: WorkerId
    number: int
    endpoint: EndpointId
    slug: str
    idle_s: float
    resident_s: float


def spare(
    endpoint: Endpoint,
    workers: Sequence[Worker],
    signals: Signals | None,
    loads: Mapping[WorkerId, int],
    *,
    now: float,
    residence_s: float,
) -> list[Idle]:
    """The endpoint's workers without a request that it can do without: above its pools' floors, and ready for
    `residence_s` at least, so that endpoints do not take turns faster than workers start.

    None while a number of workers is set by hand, requests wait, or nothing is known of the requests.
    """
    by_hand = endpoint.override is not None and endpoint.override.holds(now)
    if endpoint.phase is not Phase.ACTIVE or by_hand or signals is None or signals.held_up:
        return []
    running = [w for w in workers if endpoint.runs(w.pool, w.revision)]
    ready = Counter(w.pool for w in running if w.state is WorkerState.READY)
    held = Counter(w.pool for w in running if w.state in WANTED)
    found: list[Idle] = []
    for pool in endpoint.spec.pools:
        bounds = pool.bounds
        room = min(ready[pool.name] - bounds.min, held[pool.name] - max(bounds.min, bounds.cold))
        idle = [w for w in running if w.pool == pool.name and _idle(w, loads, now, residence_s)]
        # The newest goes, as when fewer are wanted.
        idle.sort(key=lambda w: -w.number)
        found += [_described(endpoint, w, signals, now) for w in idle[: max(0, room)]]
    return found


def _idle(worker: Worker, loads: Mapping[WorkerId, int], now: float, residence_s: float) -> bool:
    if worker.state is not WorkerState.READY or worker.ready_at is None or loads.get(worker.id, 0):
        return False
    return now - worker.ready_at >= residence_s


def _described(endpoint: Endpoint, worker: Worker, signals: Signals, now: float) -> Idle:
    resident_s = now - (worker.ready_at or now)
    return Idle(
        worker=worker.id,
        number=worker.number,
        endpoint=endpoint.id,
        slug=endpoint.slug,
        idle_s=min(resident_s, max(0.0, now - signals.busy_at)),
        resident_s=resident_s,
    )


def choose(candidates: Sequence[Idle], fits: Callable[[frozenset[WorkerId]], bool]) -> tuple[Idle, ...]:
    """Whose end makes room: the least recently used one that suffices alone, else as few as suffice together, taken in
    that order. Empty when all of them together are not enough.

    `fits(gone)` says whether there is room without these workers. No worker is chosen that could stay.
    """
    order = sorted(candidates, key=lambda c: (-c.idle_s, -c.resident_s, c.number))[:CANDIDATES_MAX]
    if not order or not fits(frozenset(c.worker for c in order)):
        return ()
    for candidate in order:
        if fits(frozenset({candidate.worker})):
            return (candidate,)
    # All that are more recently used than the last one needed may stay, and then all that the last ones made needless.
    chosen = list(order)
    for candidate in reversed(order):
        rest = [c for c in chosen if c is not candidate]
        if fits(frozenset(c.worker for c in rest)):
            chosen = rest
    return tuple(chosen)

"""The time of workers, cut into hours: how long each held its hardware, and how long it was ready. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from stoker.domain.hardware import Offer, Placement
from stoker.domain.usage import HOUR_S, WorkerUsage
from stoker.domain.worker import Worker


def hour_of(at: float) -> int:
    """Hours since the epoch."""
    return int(at // HOUR_S)


def time_of(worker: Worker, *, since: float, until: float, price: float | None) -> Iterator[tuple[int, WorkerUsage]]:
    """What this worker adds to each hour between the two times. `price` is per hour of its hardware, when known."""
    if worker.started_at is None:
        return
    begin = max(since, worker.started_at)
    end = until if worker.ended_at is None else min(until, worker.ended_at)
    while begin < end:
        hour = hour_of(begin)
        step = min(end, float((hour + 1) * HOUR_S))
        started_s = step - begin
        ready_s = 0.0 if worker.ready_at is None else max(0.0, step - max(begin, worker.ready_at))
        yield (
            hour,
            WorkerUsage(
                started_s=started_s,
                ready_s=ready_s,
                priced_s=0.0 if price is None else started_s,
                cost=0.0 if price is None else started_s / HOUR_S * price,
            ),
        )
        begin = step


def hardware_name(placement: Placement | None, offer: Offer | None) -> str:
    """What a worker holds, as in `2x h100`, or `cpu`. A card that its host no longer shows is a `gpu`."""
    if placement is None or not placement.gpus:
        return "cpu"
    families = {} if offer is None else {gpu.index: gpu.family for gpu in offer.gpus}
    names = sorted({families.get(index, "gpu") for index in placement.gpus})
    return f"{len(placement.gpus)}x {'+'.join(names)}"[:128]


def price_of(placement: Placement | None, offer: Offer | None) -> float | None:
    """The price per hour of what a worker holds: the one it was placed at, else that of its host now. `None` when a
    part of it has no price. What a cold worker has let go of costs nothing: the rest is priced as its host prices it
    now.
    """
    if placement is None or (placement.price is not None and not placement.freed):
        return None if placement is None else placement.price
    if offer is None or offer.prices is None:
        return None
    held = placement.held
    families = sorted({gpu.family for gpu in offer.gpus if gpu.index in held.gpus})
    family = families[0] if len(families) == 1 else None
    return offer.prices.of(family, len(held.gpus), vcpu=held.vcpu, ram_gib=held.ram_gib)

"""Which worker a reservation is for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stoker.domain.worker import Worker, WorkerId, WorkerState


def choose(
    workers: Sequence[Worker], *, loads: Mapping[WorkerId, int], reserved: Mapping[WorkerId, float], cost: float
) -> Worker | None:
    """The worker that is least loaded for its slots once it has `cost` more, the oldest among equals. `loads` has
    requests in flight, `reserved` what other tickets announce. `None`: none takes requests now.
    """
    able = [w for w in workers if w.state is WorkerState.READY and not w.unready and w.address is not None]

    def share(worker: Worker) -> float:
        return (loads.get(worker.id, 0) + reserved.get(worker.id, 0.0) + cost) / worker.slots

    return min(able, key=lambda worker: (share(worker), worker.number), default=None)

"""When an endpoint must be looked at again though nothing happens to it. Pure; asked at the end of every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stoker.domain.endpoint import Endpoint
from stoker.domain.operation import Operation
from stoker.domain.worker import Worker, WorkerState
from stoker.policy.backoff import retry_at
from stoker.policy.lifecycle import STABLE_S

# Others' workers become idle, and have been there for long enough, without a word to the endpoint that lacks room.
ROOM_LOOK_S = 0.25


def next_look(
    endpoint: Endpoint,
    workers: Iterable[Worker],
    operations: Iterable[Operation],
    *,
    start_timeout_s: Callable[[Worker], float],
    room_wanted: bool,
    now: float,
) -> float | None:
    """The next time after `now`, or `now` itself when there is something to do at once; `None` for never.

    `operations` are its pending ones; `room_wanted`: requests wait for a worker that nothing has room for.
    """
    times = [operation.deadline_at for operation in operations]
    times += [at for each in endpoint.failures.values() if (at := retry_at(each)) is not None]
    if endpoint.override is not None and endpoint.override.until is not None:
        times.append(endpoint.override.until)
    for worker in workers:
        if worker.state is WorkerState.DRAINING and (worker.drain_deadline or 0.0) <= now:
            # Drained only now, with no time to give: the next pass stops it.
            return now
        if (at := _deadline(endpoint, worker, start_timeout_s)) is not None:
            times.append(at)
    if room_wanted:
        times.append(now + ROOM_LOOK_S)
    return min((time for time in times if time > now), default=None)


def _deadline(endpoint: Endpoint, worker: Worker, start_timeout_s: Callable[[Worker], float]) -> float | None:
    match worker.state:
        case WorkerState.DRAINING:
            return worker.drain_deadline
        case WorkerState.STARTING if worker.started_at is not None:
            return worker.started_at + start_timeout_s(worker)
        case WorkerState.READY if worker.pool in endpoint.failures and worker.ready_at is not None:
            return worker.ready_at + STABLE_S
    return None

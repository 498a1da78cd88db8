"""What is told of a worker that looks different from before. Pure; used by passes."""

from __future__ import annotations

from stoker.control.change import EventDraft
from stoker.domain.operation import Level
from stoker.domain.worker import Worker, WorkerState


def told(before: Worker, after: Worker, *, at: float) -> EventDraft | None:
    """The event of this change; `None` when it is nothing to tell a person."""
    name, level = f"worker {after.number}", Level.INFO
    match after.state:
        case WorkerState.READY if before.state is WorkerState.READY:
            said = f"gets no new requests: {after.unready}" if after.unready else "takes requests again"
            kind, message, level = "worker_unready", f"{name} {said}", Level.WARNING
        case WorkerState.READY:
            took_s = (after.ready_at or 0.0) - (after.started_at or 0.0)
            kind, message = "worker_ready", f"{name} is ready after {took_s:.2f} s"
        case WorkerState.FAILED:
            kind, message, level = "worker_failed", f"{name} failed: {after.reason}", Level.ERROR
        case WorkerState.STOPPED:
            kind, message = "worker_stopped", f"{name} has stopped"
        case WorkerState.DRAINING | WorkerState.STOPPING:
            kind, message, level = f"worker_{after.state}", f"{name}: {after.reason}", Level.WARNING
        case _:
            return None
    return EventDraft(at=at, kind=kind, message=message, worker=after.id, level=level)

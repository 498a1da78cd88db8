"""How the end of a job is told to the address that came with it: a POST of its status, unsigned. Pure."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from stoker.domain.pauses import doubled
from stoker.domain.task import Delivery, Task, TaskState
from stoker.web import Ending, WebhookForm

_STATES = {
    TaskState.QUEUED: "PENDING",
    TaskState.RUNNING: "IN_PROGRESS",
    TaskState.SUCCEEDED: "COMPLETED",
    TaskState.FAILED: "FAILED",
    TaskState.CANCELLED: "CANCELLED",
    TaskState.EXPIRED: "TIMED_OUT",
}
# Between tries, doubling.
WAIT_S, WAIT_S_MAX = 10.0, 3_600.0
_TIMEOUTS = ("total_timeout", "first_byte_timeout", "idle_timeout")


def status_of(task: Task) -> str:
    """What a task's state is called."""
    if task.state is TaskState.FAILED and task.reason.startswith(_TIMEOUTS):
        return "TIMED_OUT"
    return _STATES[task.state]


def times_of(task: Task) -> dict[str, int]:
    """How long it waited and how long it took, in ms, as far as that is over."""
    found: dict[str, int] = {}
    if task.started_at is not None:
        found["delayTime"] = max(0, round((task.started_at - task.created_at) * 1_000))
        if task.ended_at is not None:
            found["executionTime"] = max(0, round((task.ended_at - task.started_at) * 1_000))
    return found


def _body(ending: Ending) -> bytes:
    task = ending.task
    told: dict[str, Any] = {"id": task.id, "status": status_of(task), **times_of(task)}
    if task.state is TaskState.SUCCEEDED:
        told["output"] = ending.result
    elif task.state is TaskState.FAILED:
        said = ending.result.get("error") if isinstance(ending.result, dict) else None
        told["error"] = said if isinstance(said, str) else task.reason
    return json.dumps(told, ensure_ascii=False).encode()


def _request(delivery: Delivery, _key: str | None, _at: datetime) -> tuple[dict[str, str], bytes]:
    return {"Content-Type": "application/json"}, delivery.payload


def _wait_s(tries: int, _chance: float, retry_after_s: float | None) -> float | None:
    return max(doubled(WAIT_S, tries, max_s=WAIT_S_MAX), min(retry_after_s or 0.0, WAIT_S_MAX))


FORM = WebhookForm(body=_body, request=_request, wait_s=_wait_s)

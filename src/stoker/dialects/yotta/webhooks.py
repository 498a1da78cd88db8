"""How Yotta tells of the end of a task: one form of body, the key in a header, and a handful of tries."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from stoker.domain.task import Delivery, Task, TaskState
from stoker.web import Ending, WebhookForm

# Seconds from a try that failed to the next one; after the last of these there is none.
WAITS_S = (60.0, 300.0, 900.0)
TRY_S = 10.0
_NOT_OF_AN_ID = re.compile(r"[^A-Za-z0-9_]")


def body_of(ending: Ending) -> bytes:
    """What stays the same in every try."""
    task = ending.task
    succeeded = task.state is TaskState.SUCCEEDED
    document: dict[str, Any] = {
        "task_id": task.number,
        # Receivers check it: a task that was made anew elsewhere has another kind of id.
        "user_task_id": _NOT_OF_AN_ID.sub("_", task.id),
        "endpoint_id": task.endpoint if ending.endpoint is None else str(ending.endpoint),
        "status": "Success" if succeeded else "Failed",
        "success": succeeded,
    }
    if succeeded:
        document["result"] = _text(task) if ending.result is None else ending.result
    else:
        document["failed_reason"] = task.reason or str(task.state)
    return json.dumps(document, ensure_ascii=False).encode()


def _text(task: Task) -> str | None:
    inline = None if task.result is None else task.result.inline
    return None if inline is None else inline.decode(errors="replace")


def request_of(delivery: Delivery, key: str | None, at: datetime) -> tuple[dict[str, str], bytes]:
    """One try: with its time and its number, and the key that came with the task."""
    sent = at.strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03}"
    head = json.dumps({"timestamp": sent, "retry_count": delivery.tries + 1})
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["X-API-Key"] = key
    return headers, head[:-1].encode() + b", " + delivery.payload[1:]


def wait_s(tries: int, _chance: float, _retry_after_s: float | None) -> float | None:
    """The pause after so many tries; `None`: give up."""
    return WAITS_S[tries - 1] if 1 <= tries <= len(WAITS_S) else None


WEBHOOKS = WebhookForm(body=body_of, request=request_of, wait_s=wait_s, try_s=TRY_S)

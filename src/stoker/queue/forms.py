"""How webhooks are written: Stoker's own form (Standard Webhooks), and the seam for those that dialects bring.

Pure. `stoker.queue.ends` has the body written when a task ends; `stoker.queue.webhooks` makes the request of each try.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from standardwebhooks.webhooks import Webhook

from stoker.domain import times
from stoker.domain.task import Delivery, Task
from stoker.policy.retries import WEBHOOK_GIVE_UP_S, webhook_wait_s

TRY_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is told of: `result` is a small answer that is JSON, else `None`; `link` is where every one is. `at` is when
    it ended, in seconds since the epoch; `endpoint` is the number of its endpoint, unless that is gone.
    """

    task: Task
    event: str
    result: Any
    link: str
    at: float
    endpoint: int | None = None


# (the delivery, the key if it has one, when) -> headers and body of one try. `tries` counts those before it.
Try = Callable[[Delivery, str | None, datetime], tuple[dict[str, str], bytes]]
# (tries so far, chance between 0 and 1, what the receiver asked for) -> seconds until the next; `None`: give up.
Wait = Callable[[int, float, float | None], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookForm:
    """`body` is written once, in the transaction of the task's end, and stored; `request` makes a try of it. `keyed`:
    there must be a key. A try takes at most `try_s`; after `give_up_s` there are no more, whatever `wait_s` says.
    """

    body: Callable[[Ending], bytes]
    request: Try
    wait_s: Wait
    keyed: bool = False
    try_s: float = TRY_S
    give_up_s: float = WEBHOOK_GIVE_UP_S


def signed(delivery: Delivery, key: str | None, at: datetime) -> tuple[dict[str, str], bytes]:
    """Headers and body of one try. A key that begins with `whsec_` is in base64, as the standard has it; any other one
    is the key itself.
    """
    assert key is not None
    webhook = Webhook(key if key.startswith("whsec_") else key.encode())
    headers = {
        "Content-Type": "application/json",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": webhook.sign(delivery.id, at, delivery.payload.decode()),
    }
    return headers, delivery.payload


def standard_body(ending: Ending) -> bytes:
    """What a webhook of Stoker's own says. A small result that is JSON stands in it; every one is at `result_url`."""
    task = ending.task
    data: dict[str, Any] = {
        "id": task.id,
        "endpoint": task.endpoint,
        "state": task.state.value,
        "attempts": task.attempts,
        "status": task.status,
        "reason": task.reason or None,
        "created_at": _iso(task.created_at),
        "started_at": _iso(task.started_at),
        "ended_at": _iso(task.ended_at),
        "result": ending.result,
        "result_url": ending.link if task.result is not None else None,
    }
    document = {"type": ending.event, "timestamp": _iso(ending.at), "data": data}
    return json.dumps(document, ensure_ascii=False).encode()


STANDARD = WebhookForm(body=standard_body, request=signed, wait_s=webhook_wait_s, keyed=True)


def json_of(ended: Task) -> Any:
    """A small result that is JSON, else `None`."""
    kind = (ended.result_type or "").partition(";")[0].strip().lower()
    inline = None if ended.result is None else ended.result.inline
    if inline is None or not (kind == "application/json" or kind.endswith("+json")):
        return None
    try:
        value = json.loads(inline)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        # It says JSON and is none: whoever wants it as it is finds it at its address.
        return None
    return value


def _iso(at: float | None) -> str | None:
    return None if at is None else times.iso(at)

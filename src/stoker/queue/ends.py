"""How tasks end: the webhook that tells of it, written in the same transaction, and the callers who wait for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from stoker.domain.task import Delivery, Task, TaskState
from stoker.queue.backlog import Backlog
from stoker.store import deliveries
from stoker.store import tasks as rows
from stoker.store.base import Store


class Ends:
    """One for all queues. `told` is called when a webhook is to be sent. `link(task)` is where its result is."""

    def __init__(
        self,
        store: Store,
        backlog: Backlog,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        link: Callable[[Task], str],
    ) -> None:
        self.told: Callable[[], None] = lambda: None
        self._store = store
        self._backlog = backlog
        self._clock = clock
        self._new_id = new_id
        self._link = link
        self._waiting: dict[int, set[asyncio.Event]] = {}

    def delivery(self, ended: Task) -> Delivery | None:
        """The webhook for a task in a final state, if anybody wants it."""
        event = f"task.{ended.state}"
        if ended.webhook is None or event not in ended.webhook.events:
            return None
        now = self._clock()
        return Delivery(
            id=f"msg_{self._new_id()}",
            number=0,
            task=ended.number,
            task_id=ended.id,
            endpoint=ended.endpoint,
            project=ended.project,
            event=event,
            url=ended.webhook.url,
            secret=ended.webhook.secret,
            payload=payload_of(ended, event, link=self._link(ended), now=now),
            created_at=now,
            next_at=now,
        )

    def end_queued(self, tx: Connection, task: Task, state: TaskState, reason: str) -> Task | None:
        """Within a transaction: a queued task ends, with its webhook. `None` when it is not queued any more. After the
        commit `announce` what this returned.
        """
        now = self._clock()
        if not rows.end_queued(tx, task, state, reason=reason, now=now):
            return None
        ended = replace(task, state=state, reason=reason, ended_at=now)
        delivery = self.delivery(ended)
        deliveries.add(tx, [] if delivery is None else [delivery])
        return ended

    async def end(self, task: Task, state: TaskState, reason: str) -> Task | None:
        """The same as a transaction of its own, announced."""
        ended = await self._store.write(lambda tx: self.end_queued(tx, task, state, reason))
        if ended is not None:
            self.announce_queued(ended)
        return ended

    def announce_queued(self, ended: Task) -> None:
        """A task has ended while it was queued."""
        self._backlog.ended(ended.endpoint, ended.number)
        self.announce(ended)

    def announce(self, ended: Task) -> None:
        """A task has ended: whoever waits for it may look."""
        for event in self._waiting.pop(ended.number, ()):
            event.set()
        if ended.webhook is not None:
            self.told()

    @contextmanager
    def watching(self, number: int) -> Iterator[asyncio.Event]:
        """An event that is set when the task ends. Look at its state after this, not before."""
        event = asyncio.Event()
        self._waiting.setdefault(number, set()).add(event)
        try:
            yield event
        finally:
            watchers = self._waiting.get(number)
            if watchers is not None:
                watchers.discard(event)
                if not watchers:
                    del self._waiting[number]


def payload_of(ended: Task, event: str, *, link: str, now: float) -> bytes:
    """What a webhook says. A small result that is JSON stands in it; every one is at `result_url`."""
    data: dict[str, Any] = {
        "id": ended.id,
        "endpoint": ended.endpoint,
        "state": ended.state.value,
        "attempts": ended.attempts,
        "status": ended.status,
        "reason": ended.reason or None,
        "created_at": _iso(ended.created_at),
        "started_at": _iso(ended.started_at),
        "ended_at": _iso(ended.ended_at),
        "result": _json_of(ended),
        "result_url": link if ended.result is not None else None,
    }
    return json.dumps({"type": event, "timestamp": _iso(now), "data": data}, ensure_ascii=False).encode()


def _json_of(ended: Task) -> Any:
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
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

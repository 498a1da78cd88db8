"""How tasks end: the webhook that tells of it, written in the same transaction, and the callers who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Connection

from stoker.domain.task import Delivery, Task, TaskState
from stoker.queue.backlog import Backlog
from stoker.queue.forms import STANDARD, Ending, WebhookForm, json_of
from stoker.store import deliveries
from stoker.store import tasks as rows
from stoker.store.base import Store


class Ends:
    """One for all queues. `told` is called when a webhook is to be sent. `link(task)` is where its result is, `number`
    that of its endpoint; `forms` are those that webhooks are written in, by name. `stopping`: nobody is to wait here.
    """

    def __init__(
        self,
        store: Store,
        backlog: Backlog,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        link: Callable[[Task], str],
        number: Callable[[Task], int | None],
        forms: Mapping[str, WebhookForm],
    ) -> None:
        self.told: Callable[[], None] = lambda: None
        self._store = store
        self._backlog = backlog
        self._clock = clock
        self._new_id = new_id
        self._link = link
        self._number = number
        self._forms = forms
        self._waiting: dict[int, set[asyncio.Event]] = {}
        self.stopping = False

    def delivery(self, ended: Task) -> Delivery | None:
        """The webhook for a task in a final state, if anybody wants it."""
        event = f"task.{ended.state}"
        if ended.webhook is None or event not in ended.webhook.events:
            return None
        now = self._clock()
        form = self._forms.get(ended.webhook.form, STANDARD)
        ending = Ending(
            task=ended,
            event=event,
            result=json_of(ended),
            link=self._link(ended),
            at=now,
            endpoint=self._number(ended),
        )
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
            key=ended.webhook.key,
            form=ended.webhook.form,
            payload=form.body(ending),
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
        self._backlog.final(ended.endpoint, ended.state)
        for event in self._waiting.pop(ended.number, ()):
            event.set()
        if ended.webhook is not None:
            self.told()

    def let_go(self) -> None:
        """All that wait are told how things stand: they ask the next control."""
        self.stopping = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    @contextmanager
    def watching(self, number: int) -> Iterator[asyncio.Event]:
        """An event that is set when the task ends, or nobody is to wait. Look at its state after this, not before."""
        event = asyncio.Event()
        if self.stopping:
            event.set()
        self._waiting.setdefault(number, set()).add(event)
        try:
            yield event
        finally:
            watchers = self._waiting.get(number)
            if watchers is not None:
                watchers.discard(event)
                if not watchers:
                    del self._waiting[number]

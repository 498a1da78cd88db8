"""The one door through which tasks change: submit, cancel, retry, purge, pause, resume; and what is asked about them.

What is answered is on disk. Faces call this; the dispatcher does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from stoker.control import audit
from stoker.control.fleet import Fleet
from stoker.control.vault import Vault
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, authorise
from stoker.domain.endpoint import Endpoint, EndpointId
from stoker.domain.errors import Conflict, Invalid, NotFound, Saturated
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import (
    BATCH_MAX,
    Attempt,
    Delivery,
    DeliveryState,
    QueueView,
    Task,
    TaskDraft,
    TaskNumber,
    TaskState,
)
from stoker.queue.backlog import Backlog
from stoker.queue.dispatcher import Dispatcher
from stoker.queue.drafts import Drafts, Submitted, at
from stoker.queue.ends import Ends
from stoker.queue.following import Event, Following, is_end
from stoker.queue.spool import Spool
from stoker.store import audit as audit_rows
from stoker.store import deliveries
from stoker.store import tasks as rows
from stoker.store.base import Store

WAIT_S_MAX = 55.0
PURGE_STEP = 500
CANCEL_TRIES_MAX = 5


class Tasks:
    """See the module. Methods raise `NotFound`, `Forbidden`, `Invalid`, `Conflict` or `Saturated` before they change
    anything.
    """

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        backlog: Backlog,
        dispatcher: Dispatcher,
        spool: Spool,
        ends: Ends,
        vault: Vault,
        drafts: Drafts,
        following: Following,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._backlog = backlog
        self._dispatcher = dispatcher
        self._spool = spool
        self._ends = ends
        self._vault = vault
        self._following = following
        self._drafts = drafts
        self._clock = clock
        # Being written: they count against the backlog as well.
        self._arriving: dict[EndpointId, int] = {}

    # Submitting

    async def submit(self, by: Principal, reference: str, draft: TaskDraft) -> Submitted:
        """One task."""
        [submitted] = await self.submit_all(by, reference, [draft])
        return submitted

    async def submit_all(self, by: Principal, reference: str, drafts: Sequence[TaskDraft]) -> list[Submitted]:
        """All of these tasks or none of them, in their order."""
        endpoint = self._endpoint(by, reference, Action.TASK_SUBMIT)
        if not 1 <= len(drafts) <= BATCH_MAX:
            raise Invalid.at("/tasks", f"between 1 and {BATCH_MAX} tasks at a time")
        self._drafts.check(by, endpoint, drafts)
        arriving = self._arriving.get(endpoint.id, 0) + len(drafts)
        if self._backlog.queued(endpoint.id) + arriving > endpoint.spec.queue.backlog_max:
            raise Saturated(f"{endpoint.spec.queue.backlog_max} tasks wait already, which is queue.backlog_max")
        self._arriving[endpoint.id] = arriving
        try:
            return await self._add(by, endpoint, drafts)
        finally:
            self._arriving[endpoint.id] -= len(drafts)

    async def _add(self, by: Principal, endpoint: Endpoint, drafts: Sequence[TaskDraft]) -> list[Submitted]:
        made = [self._drafts.made(endpoint, draft, at(drafts, index, "")) for index, draft in enumerate(drafts)]
        kept = [replace(task, input=await self._spool.keep(task.input.inline or b"")) for task in made]
        files = {task.input.file for task in kept if task.input.file is not None}
        claim = self._dispatcher.claim(endpoint.id, len(kept))
        leased: list[Task] = []

        def add(tx: Connection) -> list[Submitted]:
            added = self._drafts.add(tx, endpoint, drafts, kept)
            if claim is not None and any(each.created for each in added):
                leased.extend(rows.lease(tx, claim))
            return added

        try:
            result = await self._store.write(add)
        except BaseException:
            self._dispatcher.claimed(endpoint.id, claim, ())
            await self._spool.remove(files)
            raise
        created = sum(each.created for each in result)
        if created:
            self._backlog.added(endpoint.id, created, self._clock())
        self._dispatcher.claimed(endpoint.id, claim, leased)
        if created:
            self._dispatcher.added(endpoint.id)
        await self._spool.remove(files - {each.task.input.file for each in result if each.created})
        return result

    def retries(self, by: Principal, reference: str) -> RetryPolicy:
        """How tasks of the endpoint are tried again that do not say otherwise."""
        return self._endpoint(by, reference, Action.TASK_SUBMIT).spec.queue.retries

    # Looking

    async def get(self, by: Principal, reference: str, id: str) -> Task:
        """A task without its bodies."""
        endpoint = self._endpoint(by, reference, Action.TASK_READ)
        return await self._store.read(lambda tx: _found(tx, endpoint.id, id))

    async def attempts(self, task: Task) -> tuple[Attempt, ...]:
        """Its attempts that have ended."""
        return await self._store.read(lambda tx: rows.attempts_of(tx, task.number))

    async def page(
        self, by: Principal, reference: str, *, state: TaskState | None, after: int, limit: int
    ) -> tuple[tuple[Task, ...], int | None]:
        """Tasks with numbers above `after`, and the number to go on after, if there are more."""
        endpoint = self._endpoint(by, reference, Action.TASK_READ)
        found = await self._store.read(lambda tx: rows.page(tx, endpoint.id, state=state, after=after, limit=limit + 1))
        return found[:limit], found[limit - 1].number if len(found) > limit else None

    async def newest(
        self, by: Principal, reference: str, *, states: Sequence[TaskState], skip: int, limit: int
    ) -> tuple[tuple[Task, ...], int]:
        """Tasks in one of these states (none said: in any), the newest first, after the first `skip`; and how many
        there are in all.
        """
        endpoint = self._endpoint(by, reference, Action.TASK_READ)
        return await self._store.read(lambda tx: rows.newest(tx, endpoint.id, states, skip=skip, limit=limit))

    async def told(self, tasks: Sequence[Task]) -> dict[TaskNumber, Delivery]:
        """The webhook of each of these tasks that has one."""
        found = await self._store.read(lambda tx: deliveries.of_tasks(tx, [task.number for task in tasks]))
        return {delivery.task: delivery for delivery in found}

    async def bodies(self, task: Task) -> tuple[bytes, bytes | None]:
        """What was submitted, and what the worker answered if it did. Raises `NotFound` when it is forgotten."""
        whole = await self._store.read(lambda tx: rows.whole(tx, task.number))
        if whole is None:
            raise NotFound(f"no task {task.id[:64]!r} at this endpoint")
        result = None if whole.result is None else await self._spool.read(whole.result)
        return await self._spool.read(whole.input), result

    async def wait(self, by: Principal, reference: str, id: str, *, timeout_s: float) -> Task:
        """The task once it has ended, or as it is after `timeout_s`, of which at most `WAIT_S_MAX` count."""
        task = await self.get(by, reference, id)
        if task.state.final:
            return task
        with self._ends.watching(task.number) as ended:
            task = await self.get(by, reference, id)
            if task.state.final:
                return task
            try:
                async with asyncio.timeout(min(timeout_s, WAIT_S_MAX)):
                    await ended.wait()
            except TimeoutError:
                return task
        return await self.get(by, reference, id)

    async def result(self, by: Principal, reference: str, id: str) -> tuple[Task, AsyncIterator[bytes]]:
        """What the worker answered. Raises `Conflict` before the end, `NotFound` when there was no answer."""
        task = await self.get(by, reference, id)
        if not task.state.final:
            raise Conflict(f"the task is {task.state} and has no result yet")
        whole = await self._store.read(lambda tx: rows.whole(tx, task.number))
        if whole is None or whole.result is None:
            raise NotFound(f"the task is {task.state}, and there is no answer of a worker")
        return whole, self._spool.pieces(whole.result)

    async def events(
        self, by: Principal, reference: str, id: str, *, after: str | None
    ) -> AsyncGenerator[Event | None, None] | None:
        """What happens to it and what its worker answers, after the event with that id; see `stoker.queue.following`.
        `None` when there is nothing more: it has ended, and whoever asks knows that.
        """
        endpoint = self._endpoint(by, reference, Action.TASK_READ)
        task = await self._store.read(lambda tx: _found(tx, endpoint.id, id))
        if task.state.final and is_end(after):
            return None

        async def again() -> Task:
            return await self._store.read(lambda tx: _found(tx, endpoint.id, id))

        return self._following.follow(again, after=after)

    async def queue(self, by: Principal, reference: str) -> QueueView:
        """The endpoint's queue as it stands."""
        endpoint = self._endpoint(by, reference, Action.TASK_READ)
        now = self._clock()
        oldest = await self._store.read(lambda tx: rows.oldest_queued(tx, endpoint.id))
        demand = self._backlog.demand(endpoint.id, now)
        return QueueView(
            queued=demand.queued,
            ready=demand.ready,
            running=demand.running,
            arrivals_per_s=demand.arrivals_per_s,
            oldest_age_s=None if oldest is None else max(0.0, now - oldest),
            paused=endpoint.id in self._backlog.paused,
            # Counted in memory: a million of them are not looked at.
            counts={
                name: count
                for name, count in (
                    ("queued", demand.queued),
                    ("running", demand.running),
                    *((state.value, count) for state, count in self._backlog.kept(endpoint.id).items()),
                )
                if count
            },
        )

    # Changing

    async def cancel(self, by: Principal, reference: str, id: str) -> Task:
        """End it: at once while it is queued, else as soon as its worker has been told. Harmless when it has ended."""
        endpoint = self._endpoint(by, reference, Action.TASK_CANCEL)

        def change(tx: Connection) -> tuple[Task, Task | None]:
            task = _found(tx, endpoint.id, id)
            if task.state is TaskState.RUNNING:
                rows.ask_to_cancel(tx, task)
                return replace(task, cancelling=True), None
            if task.state is TaskState.QUEUED:
                ended = self._ends.end_queued(tx, task, TaskState.CANCELLED, "cancelled")
                return ended or task, ended
            return task, None

        for _ in range(CANCEL_TRIES_MAX):
            task, ended = await self._store.write(change)
            if ended is not None:
                self._ends.announce_queued(ended)
            # One that was leased or recorded in this very moment is looked at again.
            if task.state is not TaskState.RUNNING or self._dispatcher.cancel(task.number):
                return task
            await asyncio.sleep(0.01)
        return task

    async def retry(self, by: Principal, reference: str, id: str) -> Task:
        """A new task that asks for the same. The old one stays as it is: final states never change."""
        endpoint = self._endpoint(by, reference, Action.TASK_SUBMIT)
        task = await self._store.read(lambda tx: _found(tx, endpoint.id, id))
        if not task.state.final:
            raise Conflict(f"the task is {task.state}; only one that has ended can be made anew")
        whole = await self._store.read(lambda tx: rows.whole(tx, task.number))
        if whole is None:
            raise NotFound(f"no task {id[:64]!r} at this endpoint")
        webhook = task.webhook
        draft = TaskDraft(
            input=await self._spool.read(whole.input),
            content_type=task.content_type,
            method=task.method,
            target=task.target,
            port=task.port,
            headers=task.headers,
            priority=task.priority,
            execution_timeout_s=task.execution_timeout_s,
            retries=task.retries,
            webhook_url=None if webhook is None else webhook.url,
            webhook_secret=None if webhook is None else webhook.secret,
            webhook_key=None if webhook is None or webhook.key is None else await self._vault.task_key(webhook.key),
            webhook_form="" if webhook is None else webhook.form,
            webhook_events=None if webhook is None else webhook.events,
        )
        return (await self.submit(by, reference, draft)).task

    async def purge(self, by: Principal, reference: str) -> int:
        """Cancel everything that is queued now. How many tasks."""
        endpoint = self._endpoint(by, reference, Action.QUEUE_CHANGE)
        purged, left = 0, self._backlog.queued(endpoint.id)
        while left > 0:
            ended = await self._store.write(lambda tx: self._purged(tx, endpoint.id, "purged"))
            for task in ended:
                self._ends.announce_queued(task)
            purged, left = purged + len(ended), left - PURGE_STEP
            if not ended:
                break
        await self._store.write(lambda tx: self._audit(tx, by, endpoint, {"purged": purged}))
        return purged

    def _purged(self, tx: Connection, endpoint: EndpointId, reason: str) -> list[Task]:
        queued = rows.queued_of(tx, endpoint, limit=PURGE_STEP)
        ended = [self._ends.end_queued(tx, task, TaskState.CANCELLED, reason) for task in queued]
        return [task for task in ended if task is not None]

    async def pause(self, by: Principal, reference: str) -> None:
        """Let none of its tasks begin; those that run go on. Harmless when repeated."""
        endpoint = self._endpoint(by, reference, Action.QUEUE_CHANGE)

        def pause(tx: Connection) -> None:
            if endpoint.id not in rows.paused(tx):
                rows.pause(tx, endpoint.id, now=self._clock())
                self._audit(tx, by, endpoint, {"paused": True})

        await self._store.write(pause)
        self._backlog.paused.add(endpoint.id)

    async def resume(self, by: Principal, reference: str) -> None:
        """Let its tasks begin again."""
        endpoint = self._endpoint(by, reference, Action.QUEUE_CHANGE)

        def resume(tx: Connection) -> None:
            if endpoint.id in rows.paused(tx):
                rows.resume(tx, endpoint.id)
                self._audit(tx, by, endpoint, {"paused": False})

        await self._store.write(resume)
        self._backlog.paused.discard(endpoint.id)
        self._dispatcher.added(endpoint.id)

    # Webhooks

    async def deliveries(
        self, by: Principal, reference: str, *, after: int, limit: int
    ) -> tuple[tuple[Delivery, ...], int | None]:
        """The endpoint's webhooks with numbers above `after`, and the number to go on after, if there are more."""
        endpoint = self._endpoint(by, reference, Action.DELIVERY_READ)
        found = await self._store.read(lambda tx: deliveries.page(tx, endpoint.id, after=after, limit=limit + 1))
        return found[:limit], found[limit - 1].number if len(found) > limit else None

    async def redeliver(self, by: Principal, reference: str, id: str) -> Delivery:
        """Send a webhook once more from the beginning, with the same id and content."""
        endpoint = self._endpoint(by, reference, Action.DELIVERY_CHANGE)

        def again(tx: Connection) -> Delivery:
            found = deliveries.find(tx, endpoint.id, id)
            if found is None:
                raise NotFound(f"no webhook {id[:64]!r} at this endpoint")
            now = self._clock()
            renewed = replace(found, state=DeliveryState.PENDING, created_at=now, next_at=now, tries=0, ended_at=None)
            deliveries.renew(tx, renewed)
            return renewed

        delivery = await self._store.write(again)
        self._ends.told()
        return delivery

    def _endpoint(self, by: Principal, reference: str, action: Action) -> Endpoint:
        """The endpoint with that id, slug, number or exact name; the first kind that matches wins."""
        endpoint = self._fleet.endpoint(EndpointId(reference))
        if endpoint is None:
            mine = [each for each in self._fleet.endpoints() if each.project == by.project]
            named = (
                *(each for each in mine if each.slug == reference),
                *(each for each in mine if str(each.number) == reference),
                *(each for each in mine if each.spec.name == reference),
            )
            if not named:
                raise NotFound(f"no endpoint {reference[:64]!r}")
            endpoint = named[0]
        authorise(by, action, project=endpoint.project, endpoint=endpoint.id, what=f"endpoint {reference[:64]!r}")
        return endpoint

    def _audit(self, tx: Connection, by: Principal, endpoint: Endpoint, after: dict[str, object]) -> None:
        draft = audit.draft(
            by, Action.QUEUE_CHANGE, at=self._clock(), target=endpoint.id, name=endpoint.spec.name, after=after
        )
        audit_rows.add(tx, draft)


def _found(tx: Connection, endpoint: EndpointId, id: str) -> Task:
    task = rows.find(tx, endpoint, id)
    if task is None:
        raise NotFound(f"no task {id[:64]!r} at this endpoint")
    return task

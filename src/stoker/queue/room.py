"""All of the queue, wired: what `stoker.app` starts, runs and closes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from stoker.control.fleet import Fleet
from stoker.control.loop import Loop
from stoker.control.vault import Vault
from stoker.domain.addresses import UrlRules
from stoker.domain.endpoint import EndpointId
from stoker.domain.task import Delivery, QueueDemand, QueueTotals, Task
from stoker.domain.worker import WorkerId
from stoker.net import GuardedSession
from stoker.queue.attempts import Attempts, Output
from stoker.queue.backlog import Backlog
from stoker.queue.cancelling import HttpTell
from stoker.queue.conclusions import Conclusions
from stoker.queue.dispatcher import Dispatcher
from stoker.queue.drafts import Drafts
from stoker.queue.ends import Ends
from stoker.queue.following import Following
from stoker.queue.forms import STANDARD, WebhookForm
from stoker.queue.polls import is_puller
from stoker.queue.pulls import Pulls
from stoker.queue.spool import Spool
from stoker.queue.streams import Streams
from stoker.queue.tasks import Tasks
from stoker.queue.tidying import Tidying
from stoker.queue.webhooks import Outbox
from stoker.store import tasks as rows
from stoker.store.base import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What the queue asks of control and tells it: see `Dispatcher` and `Pulls`."""

    gateways: Callable[[], tuple[str, ...]]
    slots: Callable[[EndpointId], int]
    changed: Callable[[EndpointId], None]
    ready: Callable[[WorkerId], None]
    unhealthy: Callable[[WorkerId, str], None]


class Queue:
    """One of each. `start` it before its `loops` run."""

    def __init__(
        self,
        fleet: Fleet,
        vault: Vault,
        folder: Path,
        streams: Path,
        *,
        attempts: Callable[[Spool], Attempts],
        control: Control,
        output_bytes_max: int,
        rules: UrlRules,
        url: str,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        forms: Mapping[str, WebhookForm],
    ) -> None:
        """`folder` is for bodies that are too large for the database, `streams` for what is being put out; `forms` are
        those of webhooks beside Stoker's own, by name; the rest is as in `Pulls`.
        """
        store, spool, known = fleet.store, Spool(folder), {"": STANDARD, **forms}
        self._clock = clock
        self.backlog = Backlog()
        self._session = GuardedSession(rules)
        self._outbox = Outbox(store, self._session, _keys(vault), known, clock=clock)
        ends = Ends(
            store,
            self.backlog,
            clock=clock,
            new_id=new_id,
            link=lambda task: f"{url}/api/v1/endpoints/{task.endpoint}/tasks/{task.id}/result",
            number=lambda task: _number(fleet, task),
            forms=known,
        )
        ends.told = self._outbox.wake
        asked = attempts(spool)
        self._fleet, self._control, self._spool, self._ends = fleet, control, spool, ends
        self._conclusions = Conclusions(store, spool, ends, clock=clock)
        self.pulls = self._wire_pulls(vault, Streams(streams), output_bytes_max)
        self.dispatcher = self._wire_dispatcher(asked)
        following = _following(store, spool, ends, asked, self.pulls)
        drafts = Drafts(rules, known, lambda id, key: vault.seal("webhook", id, key), clock, new_id)
        self.tasks = Tasks(
            store, fleet, self.backlog, self.dispatcher, spool, ends, vault, drafts, following, clock=clock
        )
        self._tidying = Tidying(store, fleet, self.backlog, spool, ends, clock=clock)

    def _wire_pulls(self, vault: Vault, streams: Streams, output_bytes_max: int) -> Pulls:
        return Pulls(
            self._fleet.store,
            self._fleet,
            self.backlog,
            self._spool,
            self._ends,
            self._conclusions,
            streams,
            ready=self._control.ready,
            unhealthy=self._control.unhealthy,
            is_token=vault.is_of_worker,
            changed=self._control.changed,
            output_bytes_max=output_bytes_max,
            clock=self._clock,
        )

    def _wire_dispatcher(self, attempts: Attempts) -> Dispatcher:
        return Dispatcher(
            self._fleet.store,
            self._fleet,
            self.backlog,
            attempts,
            self._spool,
            self._ends,
            self._conclusions,
            self.pulls,
            HttpTell(),
            gateways=self._control.gateways,
            slots=self._control.slots,
            changed=self._control.changed,
            clock=self._clock,
        )

    async def start(self) -> None:
        """Read what waits, and go on with what runs."""
        await self.dispatcher.start()
        await self.pulls.start()

    def loops(self) -> tuple[Loop, ...]:
        """What is to be done again and again."""
        return (*self.dispatcher.loops(), *self.pulls.loops(), *self._tidying.loops(), self._outbox.loop)

    def demand(self, endpoint: EndpointId, now: float) -> QueueDemand:
        """What scaling is told of the endpoint's queue."""
        return self.backlog.demand(endpoint, now)

    def totals(self, endpoint: EndpointId) -> QueueTotals:
        """What metrics tell of it now."""
        return self.backlog.totals(endpoint, self._clock())

    def let_go(self) -> None:
        """Answer all that wait here, for tasks to do or for the ends of tasks: they ask the next control."""
        self.pulls.close()
        self._ends.let_go()

    async def close(self) -> None:
        """Stop; attempts go on at their gateways."""
        self.pulls.close()
        await self._outbox.close()
        await self.dispatcher.close()
        await self._session.close()


def _keys(vault: Vault) -> Callable[[Delivery], Awaitable[str | None]]:
    """What a delivery is signed with; `None`: nothing is."""

    async def key(delivery: Delivery) -> str | None:
        if delivery.key is not None:
            return await vault.task_key(delivery.key)
        return None if delivery.secret is None else await vault.secret(delivery.project, delivery.secret)

    return key


def _number(fleet: Fleet, task: Task) -> int | None:
    endpoint = fleet.endpoint(task.endpoint)
    return None if endpoint is None else endpoint.number


def _following(store: Store, spool: Spool, ends: Ends, asked: Attempts, pulls: Pulls) -> Following:
    """Answers while they come: out of the worker's own words where it has asked for the task, else at its gateway."""

    def output(holder: str, lease: str, offset: int) -> AbstractAsyncContextManager[Output | None]:
        return pulls.output(lease, offset) if is_puller(holder) else asked.output(holder, lease, offset)

    return Following(output, spool, ends, lambda task: store.read(lambda tx: rows.whole(tx, task.number)))

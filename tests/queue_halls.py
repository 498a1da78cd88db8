"""A queue on a store in memory, with gateways that exist in memory too: what tests of the dispatcher run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from builders import endpoint as built_endpoint
from simulation import virtual
from simulation.virtual import wall
from stoker.control import keyring
from stoker.control.change import Change
from stoker.control.fleet import Fleet
from stoker.control.vault import Vault
from stoker.domain.access import KeyId, Principal, Scope
from stoker.domain.addresses import UrlRules
from stoker.domain.endpoint import Endpoint, ProjectId
from stoker.domain.queueing import Mode, QueueSpec, RetryPolicy
from stoker.domain.task import Body, Task, TaskDraft, TaskState
from stoker.domain.worker import Address
from stoker.queue.attempts import GatewayGone, Output, Seen, Sight
from stoker.queue.backlog import Backlog
from stoker.queue.conclusions import Conclusions
from stoker.queue.dispatcher import Dispatcher
from stoker.queue.drafts import Drafts
from stoker.queue.ends import Ends
from stoker.queue.following import Following
from stoker.queue.forms import STANDARD
from stoker.queue.polls import is_puller
from stoker.queue.pulls import Pulls
from stoker.queue.spool import Spool
from stoker.queue.streams import Streams
from stoker.queue.tasks import Tasks
from stoker.queue.tidying import Tidying
from stoker.store import installation
from stoker.store import tasks as rows
from stoker.store.base import Store
from stoker.store.sqlite import InlineSqliteStore

BY = Principal(key=KeyId("k"), project=ProjectId(1), scopes=frozenset({Scope.ADMIN}))
DONE = Sight(seen=Seen.ANSWERED, worker="w", status=200, content_type="text/plain", body=Body(size=2, inline=b"ok"))


def answered(status: int, **more: Any) -> Sight:
    return replace(DONE, status=status, **more)


class FakeGateways:
    """Attempts by lease. `script` says what comes of one, after `takes_s`; `slots` are free for tasks."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ("a-1.sock",)
        self.dead: set[str] = set()
        self.slots = 2
        self.takes_s = 1.0
        self.script: Callable[[Task], Sight] = lambda task: DONE
        self.attempts: dict[str, tuple[str, Task, float]] = {}
        self.begun: list[Task] = []
        self.acknowledged: list[str] = []
        self.aborted: set[str] = set()
        self.busy = 0
        self.peak: dict[int, int] = {}
        self.freed: Callable[[], None] = lambda: None
        self.tell = FakeTell()
        self.worker = "w"

    def running(self) -> list[str]:
        return [lease for lease in self.attempts if self._sight(lease).seen is Seen.RUNNING]

    def finish(self, sight: Sight) -> None:
        """All that runs ends now, with this."""
        self.script = lambda _: sight
        self.attempts = {lease: (holder, task, wall()) for lease, (holder, task, _) in self.attempts.items()}

    def kill(self, name: str) -> None:
        """It dies, and what it had with it."""
        self.dead.add(name)
        self.attempts = {lease: held for lease, held in self.attempts.items() if held[0] != name}

    def _check(self, holder: str) -> None:
        if holder in self.dead:
            raise GatewayGone(holder)

    def _sight(self, lease: str) -> Sight:
        held = self.attempts.get(lease)
        if held is None:
            return Sight(seen=Seen.UNKNOWN)
        if lease in self.aborted:
            return Sight(seen=Seen.FAILED, reason="aborted")
        return self.script(held[1]) if wall() >= held[2] else Sight(seen=Seen.RUNNING, worker=self.worker)

    async def begin(self, holder: str, task: Task, body: bytes) -> Sight:
        self._check(holder)
        assert task.lease is not None
        if task.lease not in self.attempts:
            if len(self.running()) >= self.slots:
                self.busy += 1
                return Sight(seen=Seen.REFUSED, reason="busy", kept=False)
            other = [held[1] for lease, held in self.attempts.items() if lease in self.running()]
            assert task.number not in [each.number for each in other], "a task runs twice at the same time"
            self.attempts[task.lease] = (holder, task, wall() + self.takes_s)
            self.begun.append(task)
        return Sight(seen=Seen.RUNNING, worker=self.worker)

    async def look(self, holder: str, lease: str, *, wait_s: float) -> Sight:
        for _ in range(int(wait_s / 0.25)):
            self._check(holder)
            if self._sight(lease).seen is not Seen.RUNNING:
                break
            await asyncio.sleep(0.25)
        self._check(holder)
        return self._sight(lease)

    @asynccontextmanager
    async def output(self, holder: str, lease: str, offset: int) -> AsyncIterator[Output | None]:
        self._check(holder)
        yield None

    async def abort(self, holder: str, lease: str) -> None:
        self._check(holder)
        if lease in self.running():
            self.aborted.add(lease)

    async def acknowledge(self, holder: str, lease: str) -> None:
        self._check(holder)
        self.attempts.pop(lease, None)
        self.acknowledged.append(lease)
        self.freed()

    async def close(self) -> None:
        pass


class FakeTell:
    """Workers that are told of a cancellation; `listens` is what they say to it."""

    def __init__(self) -> None:
        self.told: list[tuple[Address, str, str]] = []
        self.listens = True

    async def __call__(self, address: Address, path: str, task: Task) -> bool:
        self.told.append((address, path, task.id))
        return self.listens

    async def close(self) -> None:
        pass


class Hall:
    """One control's queue. `again` is the next control, on the same store and gateways."""

    def __init__(
        self, store: Store, fleet: Fleet, gateways: FakeGateways, folder: Path, ids: Callable[[], str]
    ) -> None:
        self.store, self.fleet, self.gateways, self.folder = store, fleet, gateways, folder
        self.ids = ids
        self.backlog = Backlog()
        self.spool = Spool(folder)
        forms = {"": STANDARD}
        self.ends = Ends(
            store,
            self.backlog,
            clock=wall,
            new_id=ids,
            link=lambda task: f"http://s/{task.id}",
            number=lambda task: None,
            forms=forms,
        )
        vault = Vault(store, keyring.fresh())
        self.changed: list[str] = []
        conclusions = Conclusions(store, self.spool, self.ends, clock=wall, chance=lambda: 0.5)
        self.told: list[tuple[str, str]] = []
        self.streams = Streams(folder.with_name("streams"))
        self.pulls = self._wire_pulls(conclusions)
        self.dispatcher = self._wire_dispatcher(conclusions)
        self.tasks = Tasks(
            store,
            fleet,
            self.backlog,
            self.dispatcher,
            self.spool,
            self.ends,
            vault,
            Drafts(UrlRules(), forms, lambda id, key: vault.seal("webhook", id, key), wall, ids),
            Following(self.output, self.spool, self.ends, lambda t: store.read(lambda tx: rows.whole(tx, t.number))),
            clock=wall,
        )
        self.tidying = Tidying(store, fleet, self.backlog, self.spool, self.ends, clock=wall)
        self._loops: list[asyncio.Task[None]] = []

    def _wire_pulls(self, conclusions: Conclusions) -> Pulls:
        return Pulls(
            self.store,
            self.fleet,
            self.backlog,
            self.spool,
            self.ends,
            conclusions,
            self.streams,
            ready=lambda worker: self.told.append((worker, "ready")),
            unhealthy=lambda worker, why: self.told.append((worker, why)),
            is_token=lambda token, worker: token == f"token of {worker}",
            changed=self.changed.append,
            output_bytes_max=1024,
            clock=wall,
        )

    def _wire_dispatcher(self, conclusions: Conclusions) -> Dispatcher:
        return Dispatcher(
            self.store,
            self.fleet,
            self.backlog,
            self.gateways,
            self.spool,
            self.ends,
            conclusions,
            self.pulls,
            self.gateways.tell,
            gateways=lambda: self.gateways.names,
            slots=lambda _: self.gateways.slots,
            changed=self.changed.append,
            clock=wall,
        )

    async def start(self) -> None:
        self.gateways.freed = lambda: self.dispatcher.freed(
            self.fleet.endpoints()[0].id, self.gateways.slots - len(self.gateways.running())
        )
        await self.dispatcher.start()
        await self.pulls.start()
        loops = (*self.dispatcher.loops(), *self.pulls.loops(), *self.tidying.loops())
        self._loops = [asyncio.create_task(loop.run()) for loop in loops]

    def output(self, holder: str, lease: str, offset: int) -> AbstractAsyncContextManager[Output | None]:
        if is_puller(holder):
            return self.pulls.output(lease, offset)
        return self.gateways.output(holder, lease, offset)

    async def crash(self) -> None:
        """It dies in the middle of whatever it does."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self.dispatcher.close()

    async def again(self) -> Hall:
        await self.crash()
        hall = Hall(self.store, self.fleet, self.gateways, self.folder, self.ids)
        await hall.start()
        return hall

    async def submit(self, id: str, **more: Any) -> Task:
        draft = TaskDraft(id=id, input=b"1", content_type="application/json", **more)
        return (await self.tasks.submit(BY, "e", draft)).task

    def draft(self, id: str, input: bytes) -> TaskDraft:
        return TaskDraft(id=id, input=input, content_type="application/json")

    async def get(self, id: str) -> Task:
        return await self.tasks.get(BY, "e", id)

    async def ended(self, id: str) -> Task:
        """The task once it has ended."""
        for _ in range(10_000):
            task = await self.tasks.wait(BY, "e", id, timeout_s=50)
            if task.state.final:
                return task
        raise AssertionError(f"{id} has not ended: {task}")

    async def state(self, id: str) -> TaskState:
        return (await self.get(id)).state


def the_endpoint(retries: RetryPolicy | None = None, **queue: Any) -> Endpoint:
    made = built_endpoint(high=2)
    spec = QueueSpec(retries=retries or RetryPolicy(), **queue)
    return replace(made, spec=replace(made.spec, mode=Mode.QUEUE, queue=spec))


@asynccontextmanager
async def hall(folder: Path, endpoint: Endpoint | None = None) -> AsyncIterator[Hall]:
    store = InlineSqliteStore()
    await store.write(lambda tx: installation.add_default_project(tx, now=wall()))
    fleet = Fleet(store)
    await fleet.add(lambda tx: Change(endpoint=endpoint or the_endpoint()))
    numbers = count(1)
    made = Hall(store, fleet, FakeGateways(), folder, lambda: f"id-{next(numbers)}")
    await made.start()
    try:
        yield made
    finally:
        await made.crash()
        await store.close()


def run(folder: Path, body: Callable[[Hall], Awaitable[None]], endpoint: Endpoint | None = None) -> None:
    """Run `body` on virtual time."""

    async def main() -> None:
        async with hall(folder, endpoint) as made:
            await body(made)

    virtual.run(main())

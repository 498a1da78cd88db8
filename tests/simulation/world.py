"""The whole of control on virtual time: real code but for the store's disk, the machines, the network and the clock."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulation.fetcher import FakeFetcher
from simulation.gateway import SimulatedGateway
from simulation.virtual import wall
from stoker.app import Stoker
from stoker.control import keyring
from stoker.control.endpoints import SHELLS
from stoker.control.measuring import Network
from stoker.domain.access import KeyId, Principal, Scope
from stoker.domain.endpoint import (
    Endpoint,
    EndpointId,
    EndpointSpec,
    PoolSpec,
    ProjectId,
    Rollout,
    ScaleBounds,
    ScalingPolicy,
)
from stoker.domain.errors import Unavailable
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import LaunchSpec
from stoker.domain.operation import Operation
from stoker.domain.probe import Probe, Probes
from stoker.domain.scaling import SqsQueue
from stoker.domain.worker import Address, Worker, WorkerState
from stoker.providers.base import Provider
from stoker.providers.fake import FakeProvider
from stoker.settings import Settings
from stoker.store import installation
from stoker.store.base import Store
from stoker.store.sqlite import InlineSqliteStore

ADMIN = Principal(key=KeyId("k"), project=ProjectId(1), scopes=frozenset({Scope.ADMIN}))
assert "fake" not in SHELLS


NOWHERE = Path("/nonexistent")
PROBE = Probe(start_timeout_s=120, period_s=5, failures_max=2)
READY_PATH = "/ready"


def spec(
    name: str = "e",
    *,
    low: int = 0,
    high: int = 4,
    slots: int = 1,
    hardware: HardwareRequest | None = None,
    command: str = "serve",
    **more: Any,
) -> EndpointSpec:
    values: dict[str, Any] = {
        "scaling": ScalingPolicy(scale_down_delay_s=10, idle_timeout_s=30),
        "probes": Probes(startup=PROBE, liveness=PROBE),
        "rollout": Rollout(drain_timeout_s=300),
        **more,
    }
    pool = PoolSpec(
        provider="fake",
        hardware=hardware or HardwareRequest(),
        bounds=ScaleBounds(min=low, max=high),
    )
    return EndpointSpec(name=name, launch=LaunchSpec(command=(command,)), pools=(pool,), slots=slots, **values)


class World:
    """One installation. `load_s` is how long a worker takes from start to its first good probe."""

    def __init__(
        self, store: Store, provider: FakeProvider, others: Mapping[str, Provider], data_dir: Path = NOWHERE
    ) -> None:
        self.store = store
        self.provider = provider
        self.providers: Mapping[str, Provider] = {"fake": provider, **others}
        self.settings = replace(Settings(data_dir=data_dir), operation_timeout_s=600)
        self.load_s = 2.0
        self.sick: set[int] = set()
        # Ports of workers that take no requests for now: their readiness fails, not their liveness.
        self.unready: set[int] = set()
        self.keyring = keyring.fresh()
        # Metrics pages by port.
        self.pages: dict[int, str] = {}
        self.fetcher = FakeFetcher()
        # Messages in queues elsewhere, by their URLs.
        self.messages: dict[str, int] = {}
        self.stoker: Stoker
        self.gateway: SimulatedGateway

    async def boot(self, *, gateway: SimulatedGateway | None = None) -> None:
        """Start control, and a gateway beside it, unless one is there that has survived."""

        term = await self.store.write(installation.next_term)
        self.stoker = Stoker(
            self.settings,
            self.store,
            self.providers,
            keyring=self.keyring,
            fetcher=self.fetcher,
            term=term,
            clock=wall,
            network=self._network(),
            messages=self.count_messages,
        )
        if gateway is not None:
            await gateway.reconnect(self.stoker.link)
        else:
            self.gateway = SimulatedGateway(self.stoker.link)
            self.gateway.connect()
        await asyncio.sleep(0)
        await self.stoker.start()

    def _network(self) -> Network:
        return Network(self._check, self._lists, self._fetch)

    async def count_messages(self, queue: SqsQueue, project: ProjectId) -> int:
        if queue.url not in self.messages:
            raise Unavailable(f"no queue {queue.url}")
        return self.messages[queue.url]

    async def _lists(self, address: Address, model: str) -> str | None:
        return None

    async def _fetch(self, address: Address, path: str) -> str:
        return self.pages.get(address.port, "")

    async def crash(self) -> None:
        """Control dies: nothing of it goes on, and nothing is said to anybody. The gateway loses its connection."""
        stoker = self.stoker
        for task in stoker._tasks:
            task.cancel()
        await asyncio.gather(*stoker._tasks, return_exceptions=True)
        await stoker.queue.close()
        await stoker.supplies.downloads.close()
        await stoker.prober.close()
        await stoker.reconciler.close()
        for managed in stoker.providers.all():
            await managed.actions.close()
        await self.gateway.close()

    async def _check(self, address: Address, probe: Probe) -> str | None:
        if address.port in self.sick:
            return "HTTP 500"
        if probe.path == READY_PATH and address.port in self.unready:
            return "HTTP 503"
        for fake in self.providers.values():
            worker = fake.at(address.port) if isinstance(fake, FakeProvider) else None
            if worker is not None and not worker.preparing:
                return None if wall() >= (worker.began_at or worker.started_at) + self.load_s else "loading"
        return "refused"

    async def create(self, wanted: EndpointSpec) -> Endpoint:
        endpoint, _ = await self.stoker.endpoints.create(ADMIN, wanted)
        return endpoint

    def workers(self, endpoint: EndpointId, *states: WorkerState) -> list[Worker]:
        live = self.stoker.fleet.live(endpoint)
        return [worker for worker in live if not states or worker.state in states]

    async def operation(self, operation: Operation) -> Operation:
        return await self.stoker.services.views.operation(operation.id, ADMIN, wait_s=0)

    async def events(self, endpoint: EndpointId) -> list[str]:
        return [e.kind for e in await self.stoker.services.views.events(endpoint, after=0, limit=500)]


@asynccontextmanager
async def world(
    provider: FakeProvider | None = None,
    *,
    others: Mapping[str, Provider] | None = None,
    data_dir: Path = NOWHERE,
) -> AsyncIterator[World]:
    """A world, booted; taken down at the end. `others` are providers beside the one called `fake`. Without a `data_dir`
    it has one of its own for as long as it is there: ids on virtual time are the same in all of them.
    """
    with contextlib.ExitStack() as folders:
        if data_dir is NOWHERE:
            data_dir = Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="stoker-world-")))
        async with _world(provider, others or {}, data_dir) as made:
            yield made


@asynccontextmanager
async def _world(provider: FakeProvider | None, others: Mapping[str, Provider], data_dir: Path) -> AsyncIterator[World]:
    store = InlineSqliteStore()
    await store.write(lambda tx: installation.add_default_project(tx, now=wall()))
    made = World(store, provider or FakeProvider(clock=wall), others, data_dir)
    await made.boot()
    try:
        yield made
    finally:
        await made.crash()
        await store.close()

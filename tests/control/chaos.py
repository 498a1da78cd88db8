"""A world in which anything may happen, with the machines and the requests checked at every moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from simulation.virtual import wall
from simulation.world import ADMIN, World, spec
from stoker.domain.endpoint import Endpoint, EndpointSpec, Phase, Rollout
from stoker.domain.errors import Conflict, NotFound, Unavailable
from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, PortRange
from stoker.domain.worker import Worker, WorkerId, WorkerSpec, WorkerState
from stoker.providers.fake import FakeProvider
from stoker.store import installation
from stoker.store.sqlite import InlineSqliteStore

CARDS = 3
CALM_S_MAX = 2_000


def _host(cards: int) -> Offer:
    gpus = tuple(GpuDevice(index=i, id=f"GPU-{i}", family="h100", vram_gib=80) for i in range(cards))
    return Offer(host="h", vcpu=1_000, ram_gib=1_000, gpus=gpus, ports=PortRange(20_000, 20_999))


class Machines(FakeProvider):
    """Machines that are slow, lose answers, and report every request that dies with its worker.

    `start_s` is how long a start takes before and after it is done; with `deaf` the caller never hears of it.
    """

    def __init__(self) -> None:
        super().__init__(clock=wall, offers=(_host(CARDS),))
        self.start_s = 0.0
        self.deaf = False
        self.lagged = False
        self.world: World
        self.wrongs: list[str] = []
        self.vanished: set[WorkerId] = set()

    async def start(self, spec: WorkerSpec) -> None:
        await asyncio.sleep(self.start_s)
        self.lagged = self.lagged or self.list_lag_s > 0
        await super().start(spec)
        self._check_cards()
        await asyncio.sleep(self.start_s)
        if self.deaf:
            raise Unavailable("the answer was lost")

    async def stop(self, worker: WorkerId, *, grace_s: float) -> None:
        if worker in self.workers and self.workers[worker].ends_at is None:
            self._check_end(worker)
        await super().stop(worker, grace_s=grace_s)
        self.world.gateway.cut(worker)

    def vanish(self, worker: WorkerId) -> None:
        super().vanish(worker)
        self.vanished.add(worker)

    def more_cards(self, cards: int) -> None:
        """New hardware arrives."""
        self._offers = (_host(cards),)

    def _check_cards(self) -> None:
        held = [gpu for found in self.workers.values() if found.exit is None for gpu in found.spec.gpus]
        # A list that does not show what runs makes control believe that a card is free.
        if len(held) != len(set(held)) and not self.lagged:
            self.wrongs.append(f"a card is given to two workers: {held}")

    def _check_end(self, worker: WorkerId) -> None:
        running = self.world.gateway.on(worker)
        known = self.world.stoker.fleet.worker(worker)
        if not running or known is None or known.state is not WorkerState.STOPPING:
            # What was lost from sight is no worker of ours any more.
            if running and not self.lagged:
                self.wrongs.append(f"{worker} is ended with requests on it, out of nowhere")
            return
        if known.drain_deadline is None or wall() < known.drain_deadline:
            self.wrongs.append(f"{worker} is stopped with {len(running)} requests on it: {known.reason}")


@dataclass(frozen=True)
class Wanted:
    """What an endpoint of the test looks like."""

    low: int = 0
    high: int = 2
    slots: int = 1
    gpus: int = 0
    command: int = 1

    def spec(self, name: str) -> EndpointSpec:
        return spec(
            name,
            low=self.low,
            high=max(self.low, self.high),
            slots=self.slots,
            hardware=HardwareRequest(gpu_count=self.gpus),
            command=f"serve{self.command}",
            rollout=Rollout(drain_timeout_s=60),
        )


class Chaos:
    """Everything that may happen to a world. Endpoints and workers are chosen by index, as far as there are any."""

    def __init__(self, world: World, machines: Machines) -> None:
        self.world = world
        self.machines = machines
        self.up = True
        self._made = 0

    # By users

    def _endpoint(self, index: int) -> Endpoint | None:
        endpoints = self.world.stoker.fleet.endpoints() if self.up else ()
        return endpoints[index % len(endpoints)] if endpoints else None

    async def create(self, wanted: Wanted) -> None:
        if self.up and len(self.world.stoker.fleet.endpoints()) < 3:
            self._made += 1
            await self.world.create(wanted.spec(f"e{self._made}"))

    async def update(self, index: int, wanted: Wanted) -> None:
        if endpoint := self._endpoint(index):
            await _perhaps(self.world.stoker.endpoints.update(ADMIN, endpoint.id, wanted.spec(endpoint.spec.name)))

    async def scale(self, index: int, workers: int | None, for_s: float | None) -> None:
        if endpoint := self._endpoint(index):
            for_s = None if workers is None else for_s
            await _perhaps(self.world.stoker.endpoints.scale(ADMIN, endpoint.id, workers, for_s=for_s))

    async def command(self, index: int, verb: str) -> None:
        if endpoint := self._endpoint(index):
            await _perhaps(getattr(self.world.stoker.endpoints, verb)(ADMIN, endpoint.id))

    async def request(self, index: int, service_s: float, count: int) -> None:
        endpoint = self._endpoint(index)
        for _ in range(count if endpoint is not None else 0):
            assert endpoint is not None
            if self.world.gateway.entry(endpoint.id) is not None:
                self.world.gateway.request(endpoint.id, service_s)

    # By machines

    def _worker(self, index: int) -> WorkerId | None:
        running = [worker for worker, found in self.machines.workers.items() if found.exit is None]
        return running[index % len(running)] if running else None

    async def crash(self, index: int) -> None:
        if worker := self._worker(index):
            self.machines.crash(worker)
            self.world.gateway.cut(worker)

    async def vanish(self, index: int) -> None:
        if worker := self._worker(index):
            self.machines.vanish(worker)
            self.world.gateway.cut(worker)

    async def sicken(self, index: int) -> None:
        worker = self._worker(index)
        port = None if worker is None else self.machines.workers[worker].spec.port
        if port is not None:
            self.world.sick.add(port)

    async def machine(self, knob: str, value: object) -> None:
        setattr(self.machines, knob, value)

    # By processes

    async def kill_control(self, down_s: float) -> None:
        if self.up:
            self.up = False
            await self.world.crash()
            await asyncio.sleep(down_s)
            await self.world.boot(gateway=self.world.gateway)
            self.up = True

    async def silence(self) -> None:
        self.world.gateway.silent = True

    async def speak(self) -> None:
        if self.world.gateway.silent:
            await self.world.gateway.reconnect(self.world.stoker.link)

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    # After all

    async def calm(self) -> None:
        """Nothing happens any more: wait until everything has come to rest."""
        machines = self.machines
        machines.list_error = machines.start_error = machines.exit_code = None
        machines.start_s = machines.list_lag_s = machines.stop_s = 0.0
        machines.deaf = False
        machines.more_cards(64)
        self.world.sick.clear()
        await self.speak()
        for endpoint in self.world.stoker.fleet.endpoints():
            # None by hand means that requests wait until somebody says otherwise.
            if endpoint.phase is Phase.ACTIVE and endpoint.override is not None and endpoint.override.workers == 0:
                await self.world.stoker.endpoints.scale(ADMIN, endpoint.id, None)
        for _ in range(CALM_S_MAX // 5):
            await asyncio.sleep(5)
            if not self.unrest():
                await asyncio.sleep(45)
                if not self.unrest():
                    return

    def unrest(self) -> list[str]:
        """What is not as it should be in the end."""
        fleet, said = self.world.stoker.fleet, list(self.machines.wrongs)
        said += [f"a request to {r.worker} has not ended" for r in self.world.gateway.requests if r.outcome is None]
        known = {worker.id for worker in fleet.all_workers() if not worker.gone}
        if known != set(self.machines.workers):
            said.append(f"control knows {known}, there are {set(self.machines.workers)}")
        # One that vanished before anybody heard of its start may be started again.
        starts = [worker for worker in self.machines.starts if worker not in self.machines.vanished]
        if len(starts) != len(set(starts)):
            said.append("a worker was started twice")
        for endpoint in fleet.endpoints():
            said += _unrest_of(endpoint, fleet.live(endpoint.id))
            said += [f"{operation.kind} is still pending" for operation in fleet.operations(endpoint.id)]
            if endpoint.phase is Phase.DELETING:
                said.append(f"{endpoint.slug} is not deleted yet")
        return said

    def wrongs_now(self) -> list[str]:
        """What may not be even for a moment."""
        said = list(self.machines.wrongs)
        live = [worker for worker in self.world.stoker.fleet.all_workers() if not worker.gone]
        ports = [worker.address.port for worker in live if worker.address is not None]
        cards = [gpu for worker in live if worker.placement is not None for gpu in worker.placement.gpus]
        if len(ports) != len(set(ports)):
            said.append(f"a port is given to two workers: {ports}")
        if len(cards) != len(set(cards)):
            said.append(f"a card is given to two workers: {cards}")
        return said


def _unrest_of(endpoint: Endpoint, live: tuple[Worker, ...]) -> list[str]:
    wanted = endpoint.desired if endpoint.phase is Phase.ACTIVE else 0
    states = [(worker.state.value, endpoint.runs(worker.pool, worker.revision)) for worker in live]
    if states == [(WorkerState.READY.value, True)] * wanted:
        return []
    return [f"{endpoint.slug} wants {wanted} workers of revision {endpoint.launched} or later, has {states}"]


async def _perhaps(change: object) -> None:
    """A change that may be refused because of another one."""
    assert asyncio.iscoroutine(change)
    try:
        await change
    except (Conflict, NotFound):
        return


@asynccontextmanager
async def chaos() -> AsyncIterator[Chaos]:
    """One of these, booted."""
    store = InlineSqliteStore()
    await store.write(lambda tx: installation.add_default_project(tx, now=wall()))
    machines = Machines()
    world = World(store, machines, {})
    world.settings = replace(world.settings, operation_timeout_s=300)
    machines.world = world
    await world.boot()
    try:
        yield Chaos(world, machines)
    finally:
        await world.crash()
        await store.close()

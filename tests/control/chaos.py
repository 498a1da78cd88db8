"""A world in which anything may happen, with the machines and the requests checked at every moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from simulation.virtual import wall
from simulation.world import ADMIN, READY_PATH, World, spec
from stoker.domain.endpoint import Endpoint, EndpointSpec, Phase, PoolSpec, Rollout, ScaleBounds
from stoker.domain.errors import Conflict, Invalid, NotFound, Unavailable
from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, PortRange
from stoker.domain.probe import Probe, Probes
from stoker.domain.worker import Worker, WorkerId, WorkerSpec, WorkerState
from stoker.providers.fake import FakeProvider
from stoker.store import installation
from stoker.store.sqlite import InlineSqliteStore

CARDS = 3
CALM_S_MAX = 2_000
# Three endpoints of at most three and two workers, with what is cold, old, on its way or on its way out beside them.
WORKERS_MAX = 60
WAITING_MAX = 3 * 1_000


def _host(number: int, cards: int) -> Offer:
    gpus = tuple(GpuDevice(index=i, id=f"GPU-{i}", family="h100", vram_gib=80) for i in range(cards))
    first = 20_000 + 1_000 * number
    return Offer(host=f"h{number}", vcpu=1_000, ram_gib=1_000, gpus=gpus, ports=PortRange(first, first + 999))


class Machines(FakeProvider):
    """Machines that are slow, lose answers, and report every request that dies with its worker.

    `start_s` is how long a start takes before and after it is done; with `deaf` the caller never hears of it.
    """

    def __init__(self, number: int = 0) -> None:
        super().__init__(clock=wall, offers=(_host(number, CARDS),))
        self.number = number
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
        self._offers = (_host(self.number, cards),)

    def cordon(self) -> None:
        """Nothing more fits; what runs goes on."""
        self._offers = ()

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
class Second:
    """A pool beside the first, on other machines."""

    low: int = 0
    high: int = 1
    cold: int = 0


@dataclass(frozen=True)
class Wanted:
    """What an endpoint of the test looks like."""

    low: int = 0
    high: int = 2
    slots: int = 1
    gpus: int = 0
    command: int = 1
    cold: int = 0
    second: Second | None = None

    def spec(self, name: str) -> EndpointSpec:
        probe = Probe(path="/health", period_s=5, failures_max=3)
        plain = spec(
            name,
            low=self.low,
            high=max(self.low, self.high),
            slots=self.slots,
            hardware=HardwareRequest(gpu_count=self.gpus),
            command=f"serve{self.command}",
            rollout=Rollout(drain_timeout_s=60),
            probes=Probes(startup=probe, liveness=probe, readiness=replace(probe, path=READY_PATH)),
        )
        [first] = plain.pools
        pools = [replace(first, bounds=replace(first.bounds, cold=min(self.cold, first.bounds.max)))]
        if self.second is not None:
            high = max(self.second.low, self.second.high)
            bounds = ScaleBounds(min=self.second.low, max=high, cold=min(self.second.cold, high))
            pools.append(PoolSpec(name="second", provider="other", bounds=bounds))
        return replace(plain, pools=tuple(pools))


class Chaos:
    """Everything that may happen to a world. Endpoints and workers are chosen by index, as far as there are any."""

    def __init__(self, world: World, machines: Machines, others: Machines) -> None:
        self.world = world
        self.machines = machines
        self.all_machines = (machines, others)
        self.up = True
        self._made = 0

    # By users

    def _endpoint(self, index: int) -> Endpoint | None:
        endpoints = self.world.stoker.fleet.endpoints() if self.up else ()
        return endpoints[index % len(endpoints)] if endpoints else None

    async def create(self, wanted: Wanted) -> None:
        if self.up and len(self.world.stoker.fleet.endpoints()) < 3:
            self._made += 1
            await _perhaps(self.world.create(wanted.spec(f"e{self._made}")))

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

    def _worker(self, index: int) -> tuple[Machines, WorkerId] | None:
        running = [
            (machines, worker)
            for machines in self.all_machines
            for worker, found in machines.workers.items()
            if found.exit is None
        ]
        return running[index % len(running)] if running else None

    def _port(self, index: int) -> int | None:
        found = self._worker(index)
        return None if found is None else found[0].workers[found[1]].spec.port

    async def crash(self, index: int) -> None:
        if found := self._worker(index):
            machines, worker = found
            machines.crash(worker)
            self.world.gateway.cut(worker)

    async def vanish(self, index: int) -> None:
        if found := self._worker(index):
            machines, worker = found
            machines.vanish(worker)
            self.world.gateway.cut(worker)

    async def sicken(self, index: int) -> None:
        if port := self._port(index):
            self.world.sick.add(port)

    async def flap(self, index: int) -> None:
        """A worker takes no requests for now, or takes them again."""
        if port := self._port(index):
            self.world.unready ^= {port}

    async def cordon(self, which: int) -> None:
        """These machines take nothing new."""
        self.all_machines[which].cordon()

    async def uncordon(self, which: int) -> None:
        """They do again."""
        self.all_machines[which].more_cards(CARDS)

    async def machine(self, which: int, knob: str, value: object) -> None:
        setattr(self.all_machines[which], knob, value)

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
        for machines in self.all_machines:
            machines.list_error = machines.start_error = machines.exit_code = None
            machines.start_s = machines.list_lag_s = machines.stop_s = 0.0
            machines.deaf = False
            machines.more_cards(64)
        self.world.sick.clear()
        self.world.unready.clear()
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
        fleet, said = self.world.stoker.fleet, self._wrongs()
        said += [f"a request to {r.worker} has not ended" for r in self.world.gateway.requests if r.outcome is None]
        known = {worker.id for worker in fleet.all_workers() if not worker.gone}
        there = {worker for machines in self.all_machines for worker in machines.workers}
        if known != there:
            said.append(f"control knows {known}, there are {there}")
        # One that vanished before anybody heard of its start may be started again.
        starts = [
            worker for machines in self.all_machines for worker in machines.starts if worker not in machines.vanished
        ]
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
        said = self._wrongs()
        live = [worker for worker in self.world.stoker.fleet.all_workers() if not worker.gone]
        ports = [worker.address.port for worker in live if worker.address is not None]
        placed = [worker.placement for worker in live if worker.placement is not None]
        cards = [(placement.host, gpu) for placement in placed for gpu in placement.gpus]
        if len(ports) != len(set(ports)):
            said.append(f"a port is given to two workers: {ports}")
        if len(cards) != len(set(cards)):
            said.append(f"a card is given to two workers: {cards}")
        waiting = sum(request.outcome is None and request.worker is None for request in self.world.gateway.requests)
        if len(live) > WORKERS_MAX or waiting > WAITING_MAX:
            said.append(f"{len(live)} workers, {waiting} requests wait: something grows without a bound")
        return said

    def _wrongs(self) -> list[str]:
        return [wrong for machines in self.all_machines for wrong in machines.wrongs]


def _unrest_of(endpoint: Endpoint, live: tuple[Worker, ...]) -> list[str]:
    wanted = endpoint.desired if endpoint.phase is Phase.ACTIVE else 0
    said = []
    states = [(worker.state.value, endpoint.runs(worker.pool, worker.revision)) for worker in live]
    warm = [state for state in states if state != (WorkerState.COLD.value, True)]
    if warm != [(WorkerState.READY.value, True)] * wanted:
        said.append(f"{endpoint.slug} wants {wanted} workers of revision {endpoint.launched} or later, has {states}")
    for pool in endpoint.spec.pools:
        ready = sum(w.pool == pool.name and w.state is WorkerState.READY for w in live)
        cold = sum(w.pool == pool.name and w.state is WorkerState.COLD for w in live)
        floor = pool.bounds.cold if endpoint.phase is Phase.ACTIVE else 0
        if cold > floor or ready + cold < floor:
            said.append(f"{endpoint.slug} keeps {cold} cold beside {ready} in {pool.name}, whose floor is {floor}")
        if ready > pool.bounds.max and endpoint.override is None:
            said.append(f"{endpoint.slug} has {ready} workers in {pool.name}, which may have {pool.bounds.max}")
    return said


async def _perhaps(change: object) -> None:
    """A change that may be refused because of another one, or because there is no machine for it now."""
    assert asyncio.iscoroutine(change)
    try:
        await change
    except (Conflict, NotFound):
        return
    except Invalid as exc:
        if "no host can ever run this" not in str(exc):
            raise


@asynccontextmanager
async def chaos() -> AsyncIterator[Chaos]:
    """One of these, booted."""
    store = InlineSqliteStore()
    await store.write(lambda tx: installation.add_default_project(tx, now=wall()))
    machines, others = Machines(), Machines(1)
    world = World(store, machines, {"other": others})
    world.settings = replace(world.settings, operation_timeout_s=300)
    machines.world = others.world = world
    await world.boot()
    try:
        yield Chaos(world, machines, others)
    finally:
        await world.crash()
        await store.close()

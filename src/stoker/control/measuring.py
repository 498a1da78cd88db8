"""Measures ready workers again and again: their engines' metrics pages, and what they take of their machines.

Bounded in period, concurrency and size of a page. What cannot be had keeps its last value, which gets old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp
import structlog

from stoker.control.fleet import Fleet
from stoker.control.managed import Managed, Providers
from stoker.control.prober import Check, Lists, NetworkCheck, read_bounded
from stoker.domain.errors import StokerError
from stoker.domain.measurements import EngineMetrics, Measured, Resources, Taken
from stoker.domain.worker import Address, Worker, WorkerId, WorkerState
from stoker.engines import base as engines
from stoker.engines.base import Metric
from stoker.providers.base import Measures
from stoker.telemetry.exposition import values_of

log = structlog.get_logger(__name__)

PERIOD_S = 5.0
PATH = "/metrics"
SCRAPES_AT_ONCE = 32
SCRAPE_TIMEOUT_S = 3.0
PAGE_BYTES_MAX = 1024 * 1024
MEASURE_TIMEOUT_S = 20.0

# Fetches a page. Raises `OSError` or `ValueError`, saying what is wrong.
Fetch = Callable[[Address, str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Network:
    """How control speaks to workers: probes, their lists of models, their metrics pages."""

    check: Check
    lists: Lists
    fetch: Fetch


class Measuring:
    """`step` every `PERIOD_S`; `of` gives what is known of a worker."""

    def __init__(self, fleet: Fleet, providers: Providers, fetch: Fetch, *, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._providers = providers
        self._fetch = fetch
        self._clock = clock
        self._engine: dict[WorkerId, EngineMetrics] = {}
        self._taken: dict[WorkerId, tuple[float, Taken]] = {}
        self._resources: dict[WorkerId, Resources] = {}

    def of(self, worker: WorkerId) -> Measured:
        """What is known of this worker; nothing of one that is not ready."""
        return Measured(worker=worker, engine=self._engine.get(worker), resources=self._resources.get(worker))

    async def step(self) -> None:
        """Measure all ready workers once."""
        ready = [w for w in self._fleet.all_workers() if w.state is WorkerState.READY]
        self._forget({worker.id for worker in ready})
        room = asyncio.Semaphore(SCRAPES_AT_ONCE)
        await asyncio.gather(
            *(self._scrape(worker, address, wanted, room) for worker, address, wanted in self._with_pages(ready)),
            *(self._measure(managed, ready) for managed in self._providers.all()),
        )

    def _forget(self, ready: set[WorkerId]) -> None:
        self._engine = {worker: said for worker, said in self._engine.items() if worker in ready}
        self._taken = {worker: taken for worker, taken in self._taken.items() if worker in ready}
        self._resources = {worker: found for worker, found in self._resources.items() if worker in ready}

    def _with_pages(self, ready: Sequence[Worker]) -> list[tuple[Worker, Address, dict[str, Metric]]]:
        found = []
        for worker in ready:
            revision = self._fleet.revision_of(worker)
            launch = None if revision is None else revision.launch_of(worker.pool)
            if launch is None or launch.engine is None or worker.address is None:
                continue
            try:
                wanted = dict(engines.load(launch.engine).metrics)
            except StokerError:
                # An engine of a package that is no longer installed.
                continue
            if wanted:
                found.append((worker, worker.address, wanted))
        return found

    async def _scrape(
        self, worker: Worker, address: Address, wanted: dict[str, Metric], room: asyncio.Semaphore
    ) -> None:
        try:
            async with room, asyncio.timeout(SCRAPE_TIMEOUT_S):
                page = await self._fetch(address, PATH)
            values = values_of(page, wanted)
            self._engine[worker.id] = EngineMetrics(at=self._clock(), values=values)
        except (OSError, ValueError, aiohttp.ClientError) as exc:
            reason = f"no page within {SCRAPE_TIMEOUT_S:g} s" if isinstance(exc, TimeoutError) else str(exc)
            before = self._engine.get(worker.id)
            self._engine[worker.id] = EngineMetrics(
                at=None if before is None else before.at,
                values={} if before is None else before.values,
                error=(reason or type(exc).__name__)[:200],
            )

    async def _measure(self, managed: Managed, ready: Sequence[Worker]) -> None:
        provider = managed.provider
        if not isinstance(provider, Measures):
            return
        wanted = {
            w.id: () if w.placement is None else managed.gpu_ids(w.placement)
            for w in ready
            if w.provider == managed.name
        }
        if not wanted:
            return
        try:
            async with asyncio.timeout(MEASURE_TIMEOUT_S):
                found = await provider.measure(wanted)
        except (OSError, StokerError) as exc:
            log.warning("measuring_failed", provider=managed.name, error=str(exc) or type(exc).__name__)
            return
        now = self._clock()
        for worker, taken in found.items():
            self._resources[worker] = resources_of(self._taken.get(worker), taken, now)
            self._taken[worker] = (now, taken)


def resources_of(before: tuple[float, Taken] | None, taken: Taken, now: float) -> Resources:
    """What is taken now, with the processors that were busy since the measurement before."""
    cpus = None
    if before is not None and now > before[0]:
        # Less than before when a part of the worker has ended and nobody counts its time any more.
        cpus = max(0.0, taken.cpu_s - before[1].cpu_s) / (now - before[0])
    return Resources(at=now, cpus=cpus, memory_bytes=taken.memory_bytes, gpus=taken.gpus)


class NetworkFetch:
    """The real one, on connections of its own."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, address: Address, path: str) -> str:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=SCRAPES_AT_ONCE, force_close=True)
            )
        url = f"http://{address.host}:{address.port}{path}"
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"HTTP {response.status}")
            body = await read_bounded(response, PAGE_BYTES_MAX)
            return body.decode("utf-8", "replace")

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()


class RealNetwork:
    """All of it over the real network. `close` it at the end."""

    def __init__(self) -> None:
        self._check, self._fetch = NetworkCheck(), NetworkFetch()
        self.network = Network(self._check, self._check.lists, self._fetch)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._check.close()
        await self._fetch.close()

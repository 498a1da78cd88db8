"""Asks workers whether they are ready, and goes on asking those that are. One owned task for each probed worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import structlog

from stoker.domain.endpoint import Probe
from stoker.domain.errors import StokerError
from stoker.domain.worker import Address, WorkerId

log = structlog.get_logger(__name__)

# Pauses between probes of a starting worker: short at first, since every one of them is added to a cold start.
STARTING_FIRST_S = 0.05
STARTING_MAX_S = 0.5
ANSWER_BYTES_MAX = 64 * 1024

# What a check returns: `None` when the worker is well, else what is wrong.
Check = Callable[[Address, Probe], Awaitable[str | None]]
# Does the listener on its port belong to the worker?
Listens = Callable[[WorkerId, int], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class _Probed:
    task: asyncio.Task[None]
    starting: bool
    probe: Probe


class Prober:
    """`ready(worker)` after the first good probe; `unhealthy(worker, why)` after `failures_max` bad ones in a row."""

    def __init__(
        self, check: Check, *, ready: Callable[[WorkerId], None], unhealthy: Callable[[WorkerId, str], None]
    ) -> None:
        self._check = check
        self._ready = ready
        self._unhealthy = unhealthy
        self._probed: dict[WorkerId, _Probed] = {}

    def watch(self, worker: WorkerId, address: Address, probe: Probe, *, starting: bool, listens: Listens) -> None:
        """Probe this worker from now on, as one that starts or one that is ready; changes nothing if that is so."""
        known = self._probed.get(worker)
        if known is not None:
            if known.starting == starting and known.probe == probe:
                return
            known.task.cancel()
        run = (
            self._until_ready(worker, address, probe, listens)
            if starting
            else self._while_ready(worker, address, probe)
        )
        self._probed[worker] = _Probed(asyncio.create_task(run, name=f"probe {worker}"), starting, probe)

    def forget(self, worker: WorkerId) -> None:
        """Probe it no more; unknown ones change nothing."""
        known = self._probed.pop(worker, None)
        if known is not None:
            known.task.cancel()

    async def _until_ready(self, worker: WorkerId, address: Address, probe: Probe, listens: Listens) -> None:
        pause_s = STARTING_FIRST_S
        while True:
            # The answer counts only when it is this worker's own: another program may sit on its port.
            if await self._check(address, probe) is None and await _listens(listens, worker, address.port):
                self._ready(worker)
                return
            await asyncio.sleep(pause_s)
            pause_s = min(STARTING_MAX_S, pause_s * 1.3)

    async def _while_ready(self, worker: WorkerId, address: Address, probe: Probe) -> None:
        failures = 0
        while True:
            await asyncio.sleep(probe.period_s)
            wrong = await self._check(address, probe)
            failures = 0 if wrong is None else failures + 1
            if wrong is not None and failures >= probe.failures_max:
                self._unhealthy(worker, f"{failures} probes failed in a row; last: {wrong}")
                return

    async def close(self) -> None:
        """Probe nothing any more."""
        tasks = [probed.task for probed in self._probed.values()]
        self._probed.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _listens(listens: Listens, worker: WorkerId, port: int) -> bool:
    try:
        return await listens(worker, port)
    except (OSError, StokerError) as exc:
        log.warning("listener_unknown", worker=worker, error=str(exc))
        return False


class NetworkCheck:
    """The real check: an HTTP GET or a TCP connection, on a connection of its own."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, address: Address, probe: Probe) -> str | None:
        try:
            async with asyncio.timeout(probe.timeout_s):
                if probe.path is None:
                    _, writer = await asyncio.open_connection(address.host, address.port)
                    writer.close()
                    return None
                return await self._get(f"http://{address.host}:{address.port}{probe.path}")
        except TimeoutError:
            return f"no answer within {probe.timeout_s:g} s"
        except (OSError, ValueError, aiohttp.ClientError) as exc:
            return str(exc) or type(exc).__name__

    async def _get(self, url: str) -> str | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=256, force_close=True), auto_decompress=False
            )
        async with self._session.get(url, allow_redirects=False) as response:
            await response.content.read(ANSWER_BYTES_MAX)
            return None if 200 <= response.status < 300 else f"HTTP {response.status}"

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

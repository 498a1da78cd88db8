"""Asks workers whether they are ready, and goes on asking those that are. One owned task for each probed worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import msgspec
import structlog

from stoker.domain.errors import StokerError
from stoker.domain.probe import Probe, Probes
from stoker.domain.worker import Address, WorkerId

log = structlog.get_logger(__name__)

# Pauses between probes of a starting worker: short at first, since every one of them is added to a cold start.
STARTING_FIRST_S = 0.05
STARTING_MAX_S = 0.5
ANSWER_BYTES_MAX = 64 * 1024
LIST_BYTES_MAX = 1024 * 1024
LIST_TIMEOUT_S = 5.0

# What a check returns: `None` when the worker is well, else what is wrong.
Check = Callable[[Address, Probe], Awaitable[str | None]]
# Does the worker list this model among those that it serves? `None` when it does, else what is wrong.
Lists = Callable[[Address, str], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a worker is asked. `listens`: does the listener on this port belong to the worker? `execute` runs a command
    beside it, for so many seconds at most; its exit code. One that starts is ready only when it also lists `model`,
    unless that is `None`.
    """

    address: Address
    listens: Callable[[WorkerId, int], Awaitable[bool]]
    execute: Callable[[WorkerId, tuple[str, ...], float], Awaitable[int]]
    model: str | None = None


class Listener(Protocol):
    """Who hears of what probes find."""

    def worker_ready(self, worker: WorkerId) -> None:
        """Its startup probe has succeeded."""

    def worker_unready(self, worker: WorkerId, why: str | None) -> None:
        """Its readiness probe fails, or (`None`) succeeds again."""

    def worker_unhealthy(self, worker: WorkerId, why: str) -> None:
        """Its liveness probe fails."""


@dataclass(frozen=True, slots=True)
class _Probed:
    task: asyncio.Task[None]
    starting: bool
    probes: Probes
    address: Address


class Prober:
    """One task for each worker that is probed."""

    def __init__(self, check: Check, *, lists: Lists | None = None) -> None:
        self._check = check
        self._lists = lists
        self._listener: Listener
        self._probed: dict[WorkerId, _Probed] = {}

    def attach(self, listener: Listener) -> None:
        """The other end, made after this one."""
        self._listener = listener

    def watch(self, worker: WorkerId, target: Target, probes: Probes, *, starting: bool) -> None:
        """Probe this worker from now on, as one that starts or one that is ready; changes nothing if that is so."""
        known = self._probed.get(worker)
        if known is not None:
            if (known.starting, known.probes, known.address) == (starting, probes, target.address):
                return
            known.task.cancel()
        run = self._until_ready(worker, target, probes) if starting else self._while_ready(worker, target, probes)
        self._probed[worker] = _Probed(
            asyncio.create_task(run, name=f"probe {worker}"), starting, probes, target.address
        )

    def forget(self, worker: WorkerId) -> None:
        """Probe it no more; unknown ones change nothing."""
        known = self._probed.pop(worker, None)
        if known is not None:
            known.task.cancel()

    async def _until_ready(self, worker: WorkerId, target: Target, probes: Probes) -> None:
        probe = probes.startup or Probe(path=None)
        await asyncio.sleep(probe.initial_delay_s)
        pause_s, successes = STARTING_FIRST_S, 0
        while True:
            # The answer counts only when it is this worker's own: another program may sit on its port.
            well = await self._ask(worker, target, probe) is None
            well = well and await self._serves(target) and await _listens(target, worker)
            successes = successes + 1 if well else 0
            if successes >= probe.successes_min:
                self._listener.worker_ready(worker)
                return
            await asyncio.sleep(probe.period_s if successes else pause_s)
            pause_s = min(STARTING_MAX_S, pause_s * 1.3)

    async def _serves(self, target: Target) -> bool:
        if target.model is None or self._lists is None:
            return True
        return await self._lists(target.address, target.model) is None

    async def _while_ready(self, worker: WorkerId, target: Target, probes: Probes) -> None:
        async with asyncio.TaskGroup() as group:
            if probes.liveness is not None:
                group.create_task(self._watch_life(worker, target, probes.liveness))
            if probes.readiness is not None:
                group.create_task(self._watch_readiness(worker, target, probes.readiness))

    async def _watch_life(self, worker: WorkerId, target: Target, probe: Probe) -> None:
        failures = 0
        while True:
            await asyncio.sleep(probe.period_s)
            wrong = await self._ask(worker, target, probe)
            failures = 0 if wrong is None else failures + 1
            if wrong is not None and failures >= probe.failures_max:
                self._listener.worker_unhealthy(worker, f"{failures} probes failed in a row; last: {wrong}")
                return

    async def _watch_readiness(self, worker: WorkerId, target: Target, probe: Probe) -> None:
        # Nothing is believed at first: what was recorded of it may be of before a restart.
        believed: bool | None = None
        last, streak = True, 0
        while True:
            await asyncio.sleep(probe.period_s)
            wrong = await self._ask(worker, target, probe)
            well = wrong is None
            streak, last = (streak + 1 if well is last else 1), well
            if well is not believed and streak >= (probe.successes_min if well else probe.failures_max):
                believed = well
                self._listener.worker_unready(worker, wrong)

    async def _ask(self, worker: WorkerId, target: Target, probe: Probe) -> str | None:
        if not probe.command:
            return await self._check(target.address, probe)
        try:
            code = await target.execute(worker, probe.command, probe.timeout_s)
        except (OSError, StokerError) as exc:
            return str(exc)
        return None if code == 0 else f"{probe.command[0]} exited with code {code}"

    async def close(self) -> None:
        """Probe nothing any more."""
        tasks = [probed.task for probed in self._probed.values()]
        self._probed.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _listens(target: Target, worker: WorkerId) -> bool:
    try:
        return await target.listens(worker, target.address.port)
    except (OSError, StokerError) as exc:
        log.warning("listener_unknown", worker=worker, error=str(exc))
        return False


class _Model(msgspec.Struct):
    """`aliases` is llama.cpp's: of several names any may be the id."""

    id: str
    aliases: list[str] = []


class _Models(msgspec.Struct):
    data: list[_Model]


_models = msgspec.json.Decoder(_Models)


async def read_bounded(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The whole body. Raises `ValueError` when it is longer."""
    body = b""
    while more := await response.content.read(bytes_max + 1 - len(body)):
        body += more
        if len(body) > bytes_max:
            raise ValueError(f"an answer of more than {bytes_max} bytes")
    return body


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

    async def lists(self, address: Address, model: str) -> str | None:
        """Is the model among those of /v1/models? What is wrong, else."""
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S):
                url = f"http://{address.host}:{address.port}/v1/models"
                async with self._opened().get(url, allow_redirects=False) as response:
                    body = await read_bounded(response, LIST_BYTES_MAX)
                    if response.status != 200:
                        return f"HTTP {response.status}"
            listed = [name for item in _models.decode(body).data for name in (item.id, *item.aliases)]
            return None if model in listed else f"it serves {', '.join(listed)[:200] or 'no model'}, not {model}"
        except TimeoutError:
            return f"no list of models within {LIST_TIMEOUT_S:g} s"
        except (OSError, ValueError, aiohttp.ClientError, msgspec.MsgspecError) as exc:
            return str(exc) or type(exc).__name__

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=256, force_close=True), auto_decompress=False
            )
        return self._session

    async def _get(self, url: str) -> str | None:
        async with self._opened().get(url, allow_redirects=False) as response:
            await response.content.read(ANSWER_BYTES_MAX)
            return None if 200 <= response.status < 300 else f"HTTP {response.status}"

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

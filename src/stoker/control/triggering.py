"""Reads what endpoints' triggers look at, and remembers how many workers they asked for as long as decisions need it.

`step` again and again; decisions ask `of`. What cannot be read asks for nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from stoker.control.fleet import Fleet
from stoker.domain.endpoint import Endpoint, EndpointId, Phase, ProjectId
from stoker.domain.errors import StokerError
from stoker.domain.measurements import STALE_S, Resources
from stoker.domain.triggers import Rate, Resource, SqsQueue
from stoker.domain.worker import WorkerId, WorkerState
from stoker.policy.scaling import Asked
from stoker.policy.triggers import Readings, Wanted, wanted

log = structlog.get_logger(__name__)

PERIOD_S = 5.0
QUEUES_AT_ONCE = 16
SAMPLES_MAX = 1_000

Messages = Callable[[SqsQueue, ProjectId], Awaitable[int]]


@dataclass(slots=True)
class _Known:
    """What is remembered of one endpoint. `asked`: when how many workers were asked for; `arrived`: when how many
    requests had arrived in all.
    """

    read_at: float = float("-inf")
    last: Wanted = field(default_factory=Wanted)
    busy_at: float | None = None
    error: str | None = None
    asked: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    arrived: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))


class Triggering:
    """See the module."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        resources: Callable[[WorkerId], Resources | None],
        arrivals: Callable[[EndpointId], int | None],
        messages: Messages,
        clock: Callable[[], float],
    ) -> None:
        """`arrivals(endpoint)` counts requests since the gateway's start."""
        self._fleet = fleet
        self._resources = resources
        self._arrivals = arrivals
        self._messages = messages
        self._clock = clock
        self._known: dict[EndpointId, _Known] = {}

    def of(self, endpoint: EndpointId) -> Asked | None:
        """What its triggers ask for; `None` for one that has none, or whose have not been read yet."""
        known = self._known.get(endpoint)
        if known is None or not known.asked:
            return None
        return Asked(
            workers=known.last.workers,
            reason=known.last.reason,
            peak=max(workers for _, workers in known.asked),
            busy_at=known.busy_at,
        )

    def error(self, endpoint: EndpointId) -> str | None:
        """Why one of its queues could not be read the last time."""
        known = self._known.get(endpoint)
        return None if known is None else known.error

    async def step(self) -> None:
        """Read the triggers of all endpoints whose time has come."""
        now = self._clock()
        active = [e for e in self._fleet.endpoints() if e.phase is Phase.ACTIVE and e.spec.scaling.triggers]
        ids = {endpoint.id for endpoint in active}
        self._known = {id: known for id, known in self._known.items() if id in ids}
        room = asyncio.Semaphore(QUEUES_AT_ONCE)
        due = [e for e in active if now - self._of(e).read_at >= e.spec.scaling.triggers.every_s - PERIOD_S / 2]
        for endpoint in active:
            self._sample(endpoint, now)
        await asyncio.gather(*(self._read(endpoint, now, room) for endpoint in due))

    def _of(self, endpoint: Endpoint) -> _Known:
        return self._known.setdefault(endpoint.id, _Known())

    def _sample(self, endpoint: Endpoint, now: float) -> None:
        rate, count = endpoint.spec.scaling.triggers.rate, self._arrivals(endpoint.id)
        if rate is None or count is None:
            return
        arrived = self._of(endpoint).arrived
        if arrived and count < arrived[-1][1]:
            # Another gateway counts from its own beginning.
            arrived.clear()
        arrived.append((now, count))
        # One from before the window: what arrived within it is the difference.
        while len(arrived) > 2 and arrived[1][0] <= now - rate.window_s:
            arrived.popleft()

    async def _read(self, endpoint: Endpoint, now: float, room: asyncio.Semaphore) -> None:
        known, policy = self._of(endpoint), endpoint.spec.scaling
        known.read_at = now
        messages, known.error = await self._counted(endpoint, room)
        ready, shares = self._shares(endpoint, now)
        rate = policy.triggers.rate
        readings = Readings(
            ready=ready,
            shares=shares,
            arrivals=None if rate is None else _within(known.arrived, rate),
            messages=messages,
        )
        known.last = wanted(policy.triggers, readings, current=endpoint.desired)
        if known.last.backlog:
            known.busy_at = now
        known.asked.append((now, known.last.workers))
        while len(known.asked) > 1 and now - known.asked[0][0] > policy.scale_down_delay_s:
            known.asked.popleft()

    async def _counted(self, endpoint: Endpoint, room: asyncio.Semaphore) -> tuple[tuple[int | None, ...], str | None]:
        error: str | None = None
        counted: list[int | None] = []
        for queue in endpoint.spec.scaling.triggers.queues:
            try:
                async with room:
                    counted.append(await self._messages(queue, endpoint.project))
            except StokerError as exc:
                counted.append(None)
                error = f"a queue cannot be read: {exc}"
        if error is not None and error != self._of(endpoint).error:
            log.warning("queue_not_read", endpoint=endpoint.slug, error=error)
        return tuple(counted), error

    def _shares(self, endpoint: Endpoint, now: float) -> tuple[int, dict[Resource, float]]:
        """How many workers are ready, and the mean of what was measured of them not long ago."""
        ready = [w for w in self._fleet.live(endpoint.id) if w.state is WorkerState.READY]
        found: dict[Resource, list[float]] = {}
        for worker in ready:
            resources, pool = self._resources(worker.id), endpoint.spec.pool(worker.pool)
            if resources is None or pool is None or now - resources.at > STALE_S:
                continue
            for resource, share in _of_one(resources, pool.hardware.vcpu_all, pool.hardware.ram_gib_all).items():
                found.setdefault(resource, []).append(share)
        return len(ready), {resource: sum(shares) / len(shares) for resource, shares in found.items()}


def _of_one(resources: Resources, vcpu: float | None, ram_gib: float | None) -> dict[Resource, float]:
    """Shares of what the worker's pool asks for; of what it does not ask for there is none."""
    found: dict[Resource, float] = {}
    if resources.cpus is not None and vcpu:
        found[Resource.CPU] = resources.cpus / vcpu
    if ram_gib:
        found[Resource.MEMORY] = resources.memory_bytes / (ram_gib * 2**30)
    for resource, shares in (
        (Resource.GPU_UTILIZATION, [gpu.utilization for gpu in resources.gpus]),
        (Resource.GPU_MEMORY, [gpu.memory_utilization for gpu in resources.gpus]),
    ):
        known = [share for share in shares if share is not None]
        if known:
            found[resource] = sum(known) / len(known)
    return found


def _within(arrived: Sequence[tuple[float, int]], rate: Rate) -> float | None:
    """Requests that arrived within the window, as evenly as they did between the samples; `None` before the second."""
    if len(arrived) < 2:
        return None
    span = arrived[-1][0] - arrived[0][0]
    count = arrived[-1][1] - arrived[0][1]
    return count * min(1.0, rate.window_s / span) if span > 0 else None

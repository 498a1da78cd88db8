"""Asks queues elsewhere how many messages they have, each at its own pace, and remembers what they said.

`step` again and again; decisions ask `of`. One that cannot be read keeps its last number, which gets old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from stoker.control.fleet import Fleet
from stoker.control.scaling import Depths
from stoker.domain.endpoint import Endpoint, EndpointId, Phase, ProjectId
from stoker.domain.errors import StokerError
from stoker.domain.scaling import SqsQueue
from stoker.policy.signals import Reading

log = structlog.get_logger(__name__)

PERIOD_S = 5.0
QUEUES_AT_ONCE = 16

Messages = Callable[[SqsQueue, ProjectId], Awaitable[int]]


@dataclass(slots=True)
class _Known:
    """Of one endpoint: when each queue was asked, and when it said what."""

    asked_at: dict[SqsQueue, float] = field(default_factory=dict)
    said: dict[SqsQueue, tuple[float, int]] = field(default_factory=dict)
    errors: dict[SqsQueue, str] = field(default_factory=dict)
    busy_at: float | None = None


class QueueDepths:
    """See the module."""

    def __init__(self, fleet: Fleet, messages: Messages, *, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._messages = messages
        self._clock = clock
        self._known: dict[EndpointId, _Known] = {}

    def of(self, endpoint: Endpoint, *, now: float) -> Depths:
        """What its queues said."""
        known = self._known.get(endpoint.id) or _Known()
        said = {queue: Reading(float(count), max(0.0, now - at)) for queue, (at, count) in known.said.items()}
        return Depths(messages=said, busy_at=known.busy_at)

    def error(self, endpoint: EndpointId) -> str | None:
        """Why one of its queues could not be read the last time."""
        known = self._known.get(endpoint)
        return None if known is None else next(iter(known.errors.values()), None)

    async def step(self) -> None:
        """Ask all queues whose time has come."""
        now = self._clock()
        # Most have none, and the first question is the cheapest.
        active = [
            e
            for e in self._fleet.endpoints()
            if e.spec.scaling.triggers and e.phase is Phase.ACTIVE and e.spec.scaling.queues
        ]
        self._known = {endpoint.id: self._kept(endpoint) for endpoint in active}
        if not active:
            return
        room = asyncio.Semaphore(QUEUES_AT_ONCE)
        due = [
            self._ask(endpoint, queue, now, room)
            for endpoint in active
            for _, queue in endpoint.spec.scaling.queues
            if now - self._known[endpoint.id].asked_at.get(queue, 0.0) >= queue.every_s - PERIOD_S / 2
        ]
        await asyncio.gather(*due)

    def _kept(self, endpoint: Endpoint) -> _Known:
        known = self._known.get(endpoint.id) or _Known()
        wanted = {queue for _, queue in endpoint.spec.scaling.queues}
        return _Known(
            asked_at={queue: at for queue, at in known.asked_at.items() if queue in wanted},
            said={queue: said for queue, said in known.said.items() if queue in wanted},
            errors={queue: error for queue, error in known.errors.items() if queue in wanted},
            busy_at=known.busy_at,
        )

    async def _ask(self, endpoint: Endpoint, queue: SqsQueue, now: float, room: asyncio.Semaphore) -> None:
        known = self._known[endpoint.id]
        known.asked_at[queue] = now
        try:
            async with room:
                count = await self._messages(queue, endpoint.project)
        except StokerError as exc:
            error = f"a queue cannot be read: {exc}"
            if known.errors.get(queue) != error:
                log.warning("queue_not_read", endpoint=endpoint.slug, error=error)
            known.errors[queue] = error
            return
        known.errors.pop(queue, None)
        known.said[queue] = (now, count)
        if count and (endpoint.desired > 0 or count >= queue.activation):
            known.busy_at = now

"""How many tasks wait and run at each endpoint, in memory: the one place where their demand is counted.

There is one control, so memory is as good as the store as long as everything that changes a task says so here, after
its transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stoker.domain.endpoint import EndpointId


@dataclass(slots=True)
class _Queue:
    queued: int = 0
    running: int = 0
    # Tasks that may not go before a time, by number.
    later: dict[int, float] = field(default_factory=dict)


class Backlog:
    """See the module. `paused` has the endpoints whose tasks do not begin."""

    def __init__(self) -> None:
        self.paused: set[EndpointId] = set()
        self._queues: dict[EndpointId, _Queue] = {}

    def load(self, queued: dict[str, int], later: Iterable[tuple[int, str, float]], paused: set[EndpointId]) -> None:
        """What the store says at the start."""
        self.paused = paused
        self._queues = {EndpointId(endpoint): _Queue(queued=count) for endpoint, count in queued.items()}
        for number, endpoint, at in later:
            self._queues[EndpointId(endpoint)].later[number] = at

    def _queue(self, endpoint: EndpointId) -> _Queue:
        return self._queues.setdefault(endpoint, _Queue())

    def endpoints(self) -> tuple[EndpointId, ...]:
        """Those that tasks wait for."""
        return tuple(endpoint for endpoint, queue in self._queues.items() if queue.queued)

    def added(self, endpoint: EndpointId, count: int) -> None:
        """So many new ones."""
        self._queue(endpoint).queued += count

    def started(self, endpoint: EndpointId, numbers: Iterable[int]) -> None:
        """They were queued and run now."""
        queue = self._queue(endpoint)
        for number in numbers:
            queue.queued -= 1
            queue.running += 1
            queue.later.pop(number, None)

    def adopted(self, endpoint: EndpointId) -> None:
        """One runs that was never seen waiting."""
        self._queue(endpoint).running += 1

    def stopped(self, endpoint: EndpointId) -> None:
        """One runs no more."""
        self._queue(endpoint).running -= 1

    def returned(self, endpoint: EndpointId, number: int, *, not_before: float | None = None) -> None:
        """One is queued again."""
        queue = self._queue(endpoint)
        queue.queued += 1
        if not_before is not None:
            queue.later[number] = not_before

    def ended(self, endpoint: EndpointId, number: int) -> None:
        """One ended while it was queued."""
        queue = self._queue(endpoint)
        queue.queued -= 1
        queue.later.pop(number, None)

    def queued(self, endpoint: EndpointId) -> int:
        """How many wait, whatever for."""
        queue = self._queues.get(endpoint)
        return 0 if queue is None else queue.queued

    def running(self, endpoint: EndpointId) -> int:
        """How many run."""
        queue = self._queues.get(endpoint)
        return 0 if queue is None else queue.running

    def ready(self, endpoint: EndpointId, now: float) -> int:
        """How many could go now; none of a paused queue."""
        queue = self._queues.get(endpoint)
        if queue is None or endpoint in self.paused:
            return 0
        for number in [number for number, at in queue.later.items() if at <= now]:
            del queue.later[number]
        return max(0, queue.queued - len(queue.later))

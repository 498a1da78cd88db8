"""How many tasks wait, run and are kept at each endpoint, in memory: the one place where their demand is counted.

There is one control, so memory is as good as the store as long as everything that changes a task says so here, after
its transaction.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stoker.domain.endpoint import EndpointId
from stoker.domain.task import FINAL, QueueDemand, QueueTotals, TaskState

# Arrivals are counted by the second, of the last minute.
RATE_S = 60


@dataclass(slots=True)
class _Queue:
    queued: int = 0
    running: int = 0
    # When the one came that waits longest, as last looked up.
    oldest_at: float | None = None
    # (second, how many came in it), oldest first.
    arrivals: deque[tuple[int, int]] = field(default_factory=deque)
    # Since the start: tasks that came, those that came back among them, and attempts that began and ended.
    came: int = 0
    begun: int = 0
    stopped: int = 0
    # Tasks that may not go before a time, by number.
    later: dict[int, float] = field(default_factory=dict)
    # Since this process began.
    arrived: int = 0
    ended: Counter[TaskState] = field(default_factory=Counter)
    # Of those that have ended, whenever.
    kept: Counter[TaskState] = field(default_factory=Counter)


class Backlog:
    """See the module. `paused` has the endpoints whose tasks do not begin."""

    def __init__(self) -> None:
        self.paused: set[EndpointId] = set()
        self._queues: dict[EndpointId, _Queue] = {}

    def load(
        self,
        queued: dict[str, int],
        later: Iterable[tuple[int, str, float]],
        paused: set[EndpointId],
        kept: Mapping[tuple[str, TaskState], int],
    ) -> None:
        """What the store says at the start."""
        self.paused = paused
        self._queues = {EndpointId(endpoint): _Queue(queued=count) for endpoint, count in queued.items()}
        for number, endpoint, at in later:
            self._queues[EndpointId(endpoint)].later[number] = at
        for (of, state), count in kept.items():
            self._queue(EndpointId(of)).kept[state] = count

    def _queue(self, endpoint: EndpointId) -> _Queue:
        return self._queues.setdefault(endpoint, _Queue())

    def endpoints(self) -> tuple[EndpointId, ...]:
        """Those that tasks wait for."""
        return tuple(endpoint for endpoint, queue in self._queues.items() if queue.queued)

    def added(self, endpoint: EndpointId, count: int, now: float) -> None:
        """So many new ones."""
        queue = self._queue(endpoint)
        if not queue.queued:
            queue.oldest_at = now
        queue.queued += count
        queue.arrived += count
        queue.came += count
        second, arrivals = int(now), queue.arrivals
        if arrivals and arrivals[-1][0] >= second:
            arrivals[-1] = (arrivals[-1][0], arrivals[-1][1] + count)
        else:
            arrivals.append((second, count))
        _forget_arrivals(arrivals, now)

    def oldest(self, endpoint: EndpointId, at: float | None) -> None:
        """The one that waits longest came at that time."""
        self._queue(endpoint).oldest_at = at

    def demand(self, endpoint: EndpointId, now: float) -> QueueDemand:
        """All that scaling is told of the queue."""
        queue = self._queues.get(endpoint)
        if queue is None:
            return QueueDemand()
        _forget_arrivals(queue.arrivals, now)
        waits = queue.queued > 0 and queue.oldest_at is not None
        return QueueDemand(
            queued=queue.queued,
            ready=self.ready(endpoint, now),
            running=queue.running,
            oldest_age_s=max(0.0, now - (queue.oldest_at or now)) if waits else None,
            arrivals_per_s=sum(count for _, count in queue.arrivals) / RATE_S,
            came=queue.came,
            begun=queue.begun,
            stopped=queue.stopped,
        )

    def started(self, endpoint: EndpointId, numbers: Iterable[int]) -> None:
        """They were queued and run now."""
        queue = self._queue(endpoint)
        for number in numbers:
            queue.queued -= 1
            queue.running += 1
            queue.begun += 1
            queue.later.pop(number, None)

    def adopted(self, endpoint: EndpointId) -> None:
        """One runs that was never seen waiting."""
        self._queue(endpoint).running += 1

    def stopped(self, endpoint: EndpointId) -> None:
        """One runs no more."""
        queue = self._queue(endpoint)
        queue.running -= 1
        queue.stopped += 1

    def returned(self, endpoint: EndpointId, number: int, *, not_before: float | None = None) -> None:
        """One is queued again."""
        queue = self._queue(endpoint)
        queue.queued += 1
        queue.came += 1
        if not_before is not None:
            queue.later[number] = not_before

    def ended(self, endpoint: EndpointId, number: int) -> None:
        """One ended while it was queued."""
        queue = self._queue(endpoint)
        queue.queued -= 1
        queue.later.pop(number, None)

    def final(self, endpoint: EndpointId, state: TaskState) -> None:
        """One has taken its final state."""
        queue = self._queue(endpoint)
        queue.ended[state] += 1
        queue.kept[state] += 1

    def forgotten(self, gone: Mapping[tuple[str, TaskState], int]) -> None:
        """Records of so many are kept no longer."""
        for (endpoint, state), count in gone.items():
            queue = self._queue(EndpointId(endpoint))
            queue.kept[state] = max(0, queue.kept[state] - count)

    def kept(self, endpoint: EndpointId) -> Mapping[TaskState, int]:
        """How many that have ended are kept, by state."""
        queue = self._queues.get(endpoint)
        return {} if queue is None else queue.kept

    def totals(self, endpoint: EndpointId, now: float) -> QueueTotals:
        """What metrics tell of it; every final state has a number."""
        queue = self._queues.get(endpoint) or _Queue()
        ended = {state: queue.ended[state] for state in sorted(FINAL)}
        return QueueTotals(demand=self.demand(endpoint, now), arrived=queue.arrived, ended=ended)

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


def _forget_arrivals(arrivals: deque[tuple[int, int]], now: float) -> None:
    while arrivals and now - arrivals[0][0] > RATE_S:
        arrivals.popleft()

"""The waiting room of one endpoint: turns in the order of their arrival. Pure; only `gateway.admission` uses it."""

from __future__ import annotations

from collections import deque

from stoker.gateway.turns import Turn


class WaitingRoom:
    """`count` turns wait, `pinned` of them for one worker each. Who leaves stays in the queue as a blank for a while:
    removing it from the middle would cost a walk through the queue.
    """

    __slots__ = ("_queue", "count", "pinned")

    def __init__(self) -> None:
        self.count = 0
        self.pinned = 0
        self._queue: deque[Turn] = deque()

    def add(self, turn: Turn) -> None:
        """It waits, behind all others."""
        self._queue.append(turn)
        self._count(turn)

    def add_again(self, turn: Turn) -> None:
        """It waits at the place that its arrival gives it: before nearly all others."""
        for place, other in enumerate(self._queue):
            if other is turn:
                break
            if other.number > turn.number:
                self._queue.insert(place, turn)
                break
        else:
            self._queue.append(turn)
        self._count(turn)

    def _count(self, turn: Turn) -> None:
        turn.waiting = True
        self.count += 1
        self.pinned += turn.pin is not None

    def forget(self, turn: Turn) -> None:
        """It waits no more."""
        turn.waiting = False
        self.count -= 1
        self.pinned -= turn.pin is not None
        if len(self._queue) > 64 and self.count * 2 < len(self._queue):
            self._queue = deque(other for other in self._queue if other.waiting)

    def pin(self, turn: Turn, worker: str) -> None:
        """From now on only this worker will do for a turn that waits."""
        turn.pin = worker
        self.pinned += 1

    def first(self) -> Turn | None:
        """The oldest."""
        queue = self._queue
        while queue and not queue[0].waiting:
            queue.popleft()
        return queue[0] if queue else None

    def turns(self) -> list[Turn]:
        """All of them, oldest first."""
        return [turn for turn in self._queue if turn.waiting]

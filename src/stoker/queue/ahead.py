"""How many tasks to lease before slots are free for them, so that a slot that comes free need not wait for the disk.

As many as will be begun within moments, by the pace at which attempts have ended of late: none where they take long.
The dispatcher asks, and keeps those that wait for their turn here.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from stoker.domain.endpoint import EndpointId

# So far ahead at least: too little for anybody to notice who comes first. Where a lease takes longer than half of it,
# as on a disk that is slow or busy, twice as long as a lease takes, up to a bound.
AHEAD_S: Final = 0.05
AHEAD_S_MAX: Final = 0.5
AHEAD_MAX: Final = 256
# What does not get a slot for so long goes back to the store.
PATIENCE_S: Final = 1.0
# Over which the pace is taken.
_PACE_S: Final = 0.25

T = TypeVar("T")


@dataclass(slots=True)
class _Pace:
    ends: float = 0.0
    at: float = 0.0

    def seen(self, now: float) -> float:
        """Ends a second, the older the less they count."""
        return self.ends * math.exp(-max(0.0, now - self.at) / _PACE_S) / _PACE_S


@dataclass(slots=True)
class Turn(Generic[T]):
    """Something leased that waits for a slot. `came` is True once there is one, False when there will be none."""

    what: T
    since: float
    came: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Ahead(Generic[T]):
    """See the module. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._lease_s = 0.0
        self._paces: dict[EndpointId, _Pace] = {}
        self._turns: dict[EndpointId, deque[Turn[T]]] = {}

    def ended(self, endpoint: EndpointId, now: float) -> None:
        """An attempt has ended."""
        pace = self._paces.setdefault(endpoint, _Pace())
        pace.ends = pace.seen(now) * _PACE_S + 1.0
        pace.at = now

    def leased(self, took_s: float) -> None:
        """A lease took so long."""
        self._lease_s += 0.3 * (took_s - self._lease_s)

    def wanted(self, endpoint: EndpointId, now: float) -> int:
        """How many to lease beyond the free slots: none while at least half of what may wait does."""
        pace = self._paces.get(endpoint)
        ahead_s = min(AHEAD_S_MAX, max(AHEAD_S, 2.0 * self._lease_s))
        most = 0 if pace is None else min(AHEAD_MAX, int(pace.seen(now) * ahead_s))
        waiting = self.waiting(endpoint)
        return most - waiting if waiting * 2 < most else 0

    def waiting(self, endpoint: EndpointId) -> int:
        """How many wait for their turn."""
        return len(self._turns.get(endpoint, ()))

    def wait(self, endpoint: EndpointId, what: T, now: float, *, first: bool = False) -> Turn[T]:
        """It waits; `first`: before all others, since it has had its turn in vain."""
        turn = Turn(what, now)
        turns = self._turns.setdefault(endpoint, deque())
        (turns.appendleft if first else turns.append)(turn)
        return turn

    def take(self, endpoint: EndpointId, slots: int) -> int:
        """So many slots are free: as many take their turn. The number of slots that are left."""
        turns = self._turns.get(endpoint)
        while slots > 0 and turns:
            turn = turns.popleft()
            if not turn.came.done():
                turn.came.set_result(True)
                slots -= 1
        return slots

    def drop(self, what: T, endpoint: EndpointId) -> None:
        """There will be no turn for it."""
        self._drop(endpoint, [turn for turn in self._turns.get(endpoint, ()) if turn.what is what])

    def drop_all(self, endpoint: EndpointId) -> None:
        """Nor for any at that endpoint."""
        self._drop(endpoint, list(self._turns.get(endpoint, ())))

    def drop_old(self, now: float) -> None:
        """Nor for those whose turn has not come for long. Forgets endpoints where nothing happens."""
        for endpoint, turns in self._turns.items():
            self._drop(endpoint, [turn for turn in turns if now - turn.since >= PATIENCE_S])
        for endpoint in [endpoint for endpoint, pace in self._paces.items() if pace.seen(now) < 1.0]:
            del self._paces[endpoint]
            if not self._turns.get(endpoint):
                self._turns.pop(endpoint, None)

    def endpoints(self) -> tuple[EndpointId, ...]:
        """Where any wait."""
        return tuple(endpoint for endpoint, turns in self._turns.items() if turns)

    def _drop(self, endpoint: EndpointId, dropped: list[Turn[T]]) -> None:
        for turn in dropped:
            self._turns[endpoint].remove(turn)
            if not turn.came.done():
                turn.came.set_result(False)

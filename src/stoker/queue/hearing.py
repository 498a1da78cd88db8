"""A worker that asks for tasks, as it is heard of: when last, what it is to be told, and what it does not let go of.

No clock and no store: `stoker.queue.pulls` says what is heard, and asks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

STOPS_MAX: Final = 1_000


@dataclass(slots=True)
class Line:
    """`stops` are jobs that it is to give up though their end is recorded. `held` are jobs that it names though they
    are over, each since when. `unhealthy`: its replacement is asked for. `closed`: it is told nothing here any more.
    """

    seen_at: float
    unhealthy: bool = False
    stops: deque[str] = field(default_factory=lambda: deque(maxlen=STOPS_MAX))
    held: dict[str, float] = field(default_factory=dict)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    def named(self, ids: Collection[str], own: Collection[str], now: float) -> None:
        """It says that it has these, of which it has `own`."""
        self.held = {id: self.held.get(id, now) for id in list(ids)[:STOPS_MAX] if id not in own}

    def ill(self, *, slots: int, ready_at: float, lease_s: float, now: float) -> str | None:
        """Why it should be replaced: it is silent, or all its slots are taken by what is over."""
        silent_s = now - max(self.seen_at, ready_at)
        if silent_s >= lease_s:
            return f"it has not pinged for {silent_s:.0f} s"
        if sum(now - since >= lease_s for since in self.held.values()) >= slots:
            return "it goes on with jobs that were cancelled or took too long, and asks for no others"
        return None

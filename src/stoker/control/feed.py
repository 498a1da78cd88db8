"""What happens to an endpoint as it happens: its events and decisions, from any place on, again and again.

Reads the journal after each commit; nothing is recorded for it. Faces call this.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from typing import Final

from sqlalchemy import Connection

from stoker.control.fleet import Fleet
from stoker.domain.endpoint import EndpointId
from stoker.domain.errors import Invalid, Saturated
from stoker.domain.operation import Decision, Event
from stoker.domain.views import Kind, News
from stoker.store import journal

# Each looks into the store up to four times a second.
FOLLOWERS_MAX: Final = 200
LOOK_S: Final = 0.25
BEAT_S: Final = 10.0
# Then whoever follows comes again, and is admitted anew.
WHOLE_S_MAX: Final = 600.0
PAGE: Final = 100
_PLACE: Final = re.compile(r"(\d{1,18})-(\d{1,18})\Z")


class Feed:
    """`follow` is what this is for."""

    def __init__(self, fleet: Fleet, *, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._followers = 0

    async def follow(
        self, endpoint: EndpointId, *, after: str | None, tail: int, of: Collection[Kind]
    ) -> AsyncGenerator[News, None]:
        """What came after the place `after`, or the last `tail` of each kind, then what comes, until the endpoint is
        deleted or `WHOLE_S_MAX` are over. News of nothing come first, and now and then as a sign of life. A place that
        is no longer kept is gone on from with what is. Raises `Saturated` and `Invalid` at the first step.
        """
        if self._followers >= FOLLOWERS_MAX:
            raise Saturated(f"{FOLLOWERS_MAX} feeds are followed already")
        place = None if after is None else _place_of(after)
        self._followers += 1
        try:
            async for news in self._news(endpoint, place, tail, of):
                yield news
        finally:
            self._followers -= 1

    async def _news(
        self, endpoint: EndpointId, place: tuple[int, int] | None, tail: int, of: Collection[Kind]
    ) -> AsyncGenerator[News, None]:
        until = self._clock() + WHOLE_S_MAX
        with self._fleet.watching() as watch:
            if place is None:
                place = await self._fleet.store.read(lambda tx: _before(tx, endpoint, tail))
            events, decisions = place
            yield News(id=f"{events}-{decisions}")
            while True:
                # Asked before the look: what its end has left in the journal is still told.
                gone = self._fleet.endpoint(endpoint) is None
                page = await self._fleet.store.read(
                    lambda tx, after=(events, decisions): _page(tx, endpoint, after, of)  # type: ignore[misc]
                )
                for one in page:
                    if isinstance(one, Event):
                        events = one.number
                        yield News(id=f"{events}-{decisions}", event=one)
                    else:
                        decisions = one.number or decisions
                        yield News(id=f"{events}-{decisions}", decision=one)
                if page:
                    continue
                if gone or self._clock() >= until:
                    return
                # Commits come in bursts.
                await asyncio.sleep(LOOK_S)
                if not await watch.changed(timeout_s=BEAT_S):
                    yield News(id=f"{events}-{decisions}")


def _place_of(after: str) -> tuple[int, int]:
    match = _PLACE.match(after)
    if match is None:
        raise Invalid.at("/Last-Event-ID", "it is the id of an event of this feed")
    return int(match[1]), int(match[2])


def _before(tx: Connection, endpoint: EndpointId, tail: int) -> tuple[int, int]:
    """The place with so many of each kind after it."""
    events = journal.newest_events(tx, endpoint, limit=tail + 1)
    decisions = journal.newest_decisions(tx, endpoint, limit=tail + 1)[::-1]
    return (
        events[0].number - (len(events) <= tail) if events else 0,
        (decisions[0].number or 0) - (len(decisions) <= tail) if decisions else 0,
    )


def _page(
    tx: Connection, endpoint: EndpointId, after: tuple[int, int], of: Collection[Kind]
) -> Sequence[Event | Decision]:
    """The next of both, by time. Each kind in the order of its numbers: clocks may be set back."""
    events = journal.events_after(tx, endpoint, after=after[0], limit=PAGE) if Kind.EVENTS in of else ()
    decisions = journal.decisions_after(tx, endpoint, after=after[1], limit=PAGE) if Kind.DECISIONS in of else ()
    merged: list[Event | Decision] = []
    left, right = list(events)[::-1], list(decisions)[::-1]
    while left and right:
        merged.append(left.pop() if left[-1].at <= right[-1].at else right.pop())
    return [*merged, *left[::-1], *right[::-1]]

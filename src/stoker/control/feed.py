"""What happens to an endpoint, or to all of a project, as it happens: events and decisions, from any place on.

Reads the journal after each commit; nothing is recorded for it. Faces call this.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy import Connection

from stoker.control.fleet import Fleet
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, visible
from stoker.domain.endpoint import EndpointId
from stoker.domain.errors import Invalid, Saturated
from stoker.domain.operation import Decision, Event
from stoker.domain.views import Kind, News
from stoker.store import journal, tables

# Each looks into the store up to four times a second.
FOLLOWERS_MAX: Final = 200
LOOK_S: Final = 0.25
BEAT_S: Final = 10.0
# Then whoever follows comes again, and is admitted anew.
WHOLE_S_MAX: Final = 600.0
PAGE: Final = 100
# Of several endpoints the last of each kind are looked for among so many of all.
TAIL_ROWS_MAX: Final = 5_000
_PLACE: Final = re.compile(r"(\d{1,18})-(\d{1,18})\Z")

_Place = tuple[int, int]
_Row = tuple[EndpointId | None, Event | Decision]


class _Source(Protocol):
    """Whose journal it is."""

    @property
    def gone(self) -> bool:
        """Will nothing more come?"""
        ...

    def before(self, tx: Connection, tail: int) -> _Place:
        """The place with so many of each kind after it."""
        ...

    def rows(self, tx: Connection, after: _Place, of: Collection[Kind]) -> Sequence[_Row]:
        """The next of both."""
        ...

    def news(self, endpoint: EndpointId | None) -> News | None:
        """What is told of a row besides itself; `None`: it is not told."""
        ...


class Feed:
    """`follow` and `follow_all` are what this is for."""

    def __init__(self, fleet: Fleet, *, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._followers = 0

    def follow(
        self, endpoint: EndpointId, *, after: str | None, tail: int, of: Collection[Kind]
    ) -> AsyncGenerator[News, None]:
        """What came after the place `after`, or the last `tail` of each kind, then what comes, until the endpoint is
        deleted or `WHOLE_S_MAX` are over. News of nothing come first, and now and then as a sign of life. A place that
        is no longer kept is gone on from with what is. Raises `Saturated` and `Invalid` at the first step.
        """
        return self._counted(_OfEndpoint(self._fleet, endpoint), after, tail, of)

    def follow_all(
        self, by: Principal, *, after: str | None, tail: int, of: Collection[Kind]
    ) -> AsyncGenerator[News, None]:
        """The same of all endpoints of the caller's project that it may see, those to come included, until
        `WHOLE_S_MAX` are over. Of those that were gone before it began nothing is told, and the last `tail` are looked
        for among `TAIL_ROWS_MAX`.
        """
        return self._counted(_OfProject(self._fleet, by), after, tail, of)

    async def _counted(
        self, source: _Source, after: str | None, tail: int, of: Collection[Kind]
    ) -> AsyncGenerator[News, None]:
        if self._followers >= FOLLOWERS_MAX:
            raise Saturated(f"{FOLLOWERS_MAX} feeds are followed already")
        place = None if after is None else _place_of(after)
        self._followers += 1
        try:
            async for news in self._news(source, place, tail, of):
                yield news
        finally:
            self._followers -= 1

    async def _news(
        self, source: _Source, place: _Place | None, tail: int, of: Collection[Kind]
    ) -> AsyncGenerator[News, None]:
        until = self._clock() + WHOLE_S_MAX
        with self._fleet.watching() as watch:
            if place is None:
                place = await self._fleet.store.read(lambda tx: source.before(tx, tail))
            yield News(id=_id(place))
            while True:
                # Asked before the look: what its end has left in the journal is still told.
                gone = source.gone
                rows = await self._fleet.store.read(lambda tx, after=place: source.rows(tx, after, of))  # type: ignore[misc]
                for endpoint, one in rows:
                    place = _behind(place, one)
                    if (news := source.news(endpoint)) is not None:
                        yield _told(news, place, one)
                if gone or self._clock() >= until:
                    if rows and gone:
                        continue
                    return
                if rows:
                    continue
                # Commits come in bursts.
                await asyncio.sleep(LOOK_S)
                if not await watch.changed(timeout_s=BEAT_S):
                    yield News(id=_id(place))


@dataclass(frozen=True, slots=True)
class _OfEndpoint:
    fleet: Fleet
    endpoint: EndpointId

    @property
    def gone(self) -> bool:
        return self.fleet.endpoint(self.endpoint) is None

    def before(self, tx: Connection, tail: int) -> _Place:
        events = journal.newest_events(tx, self.endpoint, limit=tail + 1)[::-1]
        decisions = journal.newest_decisions(tx, self.endpoint, limit=tail + 1)
        return _before([e.number for e in events], tail), _before([d.number or 0 for d in decisions], tail)

    def rows(self, tx: Connection, after: _Place, of: Collection[Kind]) -> Sequence[_Row]:
        endpoint = self.endpoint
        events = journal.events_after(tx, endpoint, after=after[0], limit=PAGE) if Kind.EVENTS in of else ()
        decisions = journal.decisions_after(tx, endpoint, after=after[1], limit=PAGE) if Kind.DECISIONS in of else ()
        return _merged([(endpoint, e) for e in events], [(endpoint, d) for d in decisions])

    def news(self, endpoint: EndpointId | None) -> News | None:
        return News(id="")


class _OfProject:
    def __init__(self, fleet: Fleet, by: Principal) -> None:
        self._fleet = fleet
        self._by = by
        # By id the names of those that were seen, which are told to their end.
        self._names = {e.id: e.spec.name for e in fleet.endpoints() if self._sees(e.id)}

    def _sees(self, endpoint: EndpointId) -> bool:
        found = self._fleet.endpoint(endpoint)
        return found is not None and visible(self._by, Action.ENDPOINT_READ, project=found.project, endpoint=found.id)

    @property
    def gone(self) -> bool:
        return False

    def before(self, tx: Connection, tail: int) -> _Place:
        limit = TAIL_ROWS_MAX if tail else 1
        found = [journal.newest_numbers(tx, table, limit=limit) for table in (tables.events, tables.decisions)]
        if not tail:
            return (found[0][0][0] if found[0] else 0, found[1][0][0] if found[1] else 0)
        events, decisions = ([number for number, endpoint in rows if endpoint in self._names] for rows in found)
        newest = [rows[0][0] if rows else 0 for rows in found]
        return (_before(events, tail) if events else newest[0], _before(decisions, tail) if decisions else newest[1])

    def rows(self, tx: Connection, after: _Place, of: Collection[Kind]) -> Sequence[_Row]:
        events = journal.events_of_all(tx, after=after[0], limit=PAGE) if Kind.EVENTS in of else ()
        decisions = journal.decisions_of_all(tx, after=after[1], limit=PAGE) if Kind.DECISIONS in of else ()
        return _merged([(e.endpoint, e) for e in events], list(decisions))

    def news(self, endpoint: EndpointId | None) -> News | None:
        if endpoint is None:
            return None
        if self._sees(endpoint) and (found := self._fleet.endpoint(endpoint)) is not None:
            self._names[endpoint] = found.spec.name
        name = self._names.get(endpoint)
        return None if name is None else News(id="", endpoint=endpoint, name=name)


def _id(place: _Place) -> str:
    return f"{place[0]}-{place[1]}"


def _behind(place: _Place, one: Event | Decision) -> _Place:
    return (one.number, place[1]) if isinstance(one, Event) else (place[0], one.number or place[1])


def _told(news: News, place: _Place, one: Event | Decision) -> News:
    event, decision = (one, None) if isinstance(one, Event) else (None, one)
    return News(id=_id(place), endpoint=news.endpoint, name=news.name, event=event, decision=decision)


def _place_of(after: str) -> _Place:
    match = _PLACE.match(after)
    if match is None:
        raise Invalid.at("/Last-Event-ID", "it is the id of an event of this feed")
    return int(match[1]), int(match[2])


def _before(newest: Sequence[int], tail: int) -> int:
    """The number after which the last `tail` of these are, the newest of which come first."""
    if not newest:
        return 0
    return newest[tail] if len(newest) > tail else newest[-1] - 1


def _merged(events: list[_Row], decisions: list[_Row]) -> Sequence[_Row]:
    """Both by time. Each kind in the order of its numbers: clocks may be set back."""
    merged: list[_Row] = []
    left, right = events[::-1], decisions[::-1]
    while left and right:
        merged.append(left.pop() if left[-1][1].at <= right[-1][1].at else right.pop())
    return [*merged, *left[::-1], *right[::-1]]

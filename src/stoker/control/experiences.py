"""What `auto` has learned of each endpoint's traffic: in memory, and a row for each in the store, read at a start.

`look` whenever a decision is made, `step` again and again. What was learned since the last step dies with control.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import msgspec
import structlog
from sqlalchemy import Connection

from stoker.control.fleet import Fleet
from stoker.domain.endpoint import EndpointId
from stoker.policy.auto.decision import Auto, Sample
from stoker.policy.auto.estimates import Setting
from stoker.policy.auto.experience import Experience
from stoker.policy.signals import Learned
from stoker.store import experiences as rows

log = structlog.get_logger(__name__)

PERIOD_S = 10.0
# Writing one down takes a part of a millisecond, in which nothing else happens.
SAVED_AT_ONCE = 50
_decoder = msgspec.json.Decoder(Experience)


class Experiences:
    """See the module."""

    def __init__(self, fleet: Fleet, *, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._stored: dict[EndpointId, Experience] = {}
        self._autos: dict[EndpointId, Auto] = {}
        # Arrivals when it was last written down; those of whom there is news, the longest known first.
        self._saved: dict[EndpointId, int] = {}
        self._news: dict[EndpointId, int] = {}

    async def load(self) -> None:
        """Read what is known."""
        for endpoint, text in await self._fleet.store.read(rows.everything):
            try:
                self._stored[endpoint] = _decoder.decode(text)
            except msgspec.DecodeError as exc:
                # It is learned anew.
                log.warning("experience_unreadable", endpoint=endpoint, error=str(exc))

    def look(self, endpoint: EndpointId, setting: Setting, sample: Sample, *, learn: bool) -> Learned:
        """What to decide from now. Unless `learn`, nobody remembers that anybody has looked."""
        auto = self._auto(endpoint, setting, sample.now)
        if not learn:
            return deepcopy(auto).look(sample), setting
        if self._saved.get(endpoint, 0) != sample.arrived:
            self._news[endpoint] = sample.arrived
        return auto.look(sample), setting

    def holds_s(self, endpoint: EndpointId, now: float) -> float:
        """For how many seconds the last look stays true if nothing happens."""
        auto = self._autos.get(endpoint)
        return 0.0 if auto is None else auto.holds_s(now)

    def of(self, endpoint: EndpointId) -> Auto | None:
        """What is known of it; `None` while nobody has looked."""
        return self._autos.get(endpoint)

    def _auto(self, endpoint: EndpointId, setting: Setting, now: float) -> Auto:
        auto = self._autos.get(endpoint)
        if auto is None:
            auto = Auto(setting, now=now, known=self._stored.pop(endpoint, None))
        elif auto.setting != setting:
            auto = Auto(setting, now=now, known=auto.known(now))
        self._autos[endpoint] = auto
        return auto

    async def step(self) -> None:
        """Write down what is news, and forget endpoints that are gone."""
        there = {endpoint.id for endpoint in self._fleet.endpoints()}
        gone = [each for each in (*self._autos, *self._stored) if each not in there]
        for endpoint in gone:
            for known in (self._autos, self._stored, self._saved, self._news):
                known.pop(endpoint, None)
        news = dict(list(self._news.items())[:SAVED_AT_ONCE])
        if not news and not gone:
            return
        now = self._clock()
        texts = {each: msgspec.json.encode(self._autos[each].known(now)).decode() for each in news}

        def write(tx: Connection) -> None:
            rows.save(tx, texts, now=now)
            rows.remove(tx, gone)

        await self._fleet.store.write(write)
        self._saved |= news
        for endpoint, arrived in news.items():
            if self._news.get(endpoint) == arrived:
                del self._news[endpoint]
            else:
                # Others first, the next time.
                self._news[endpoint] = self._news.pop(endpoint)

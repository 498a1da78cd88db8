"""When endpoints are to be looked at though nothing happens to them: those that sleep cost nothing until then."""

from __future__ import annotations

import heapq

from stoker.domain.endpoint import EndpointId


class Agenda:
    """At most one time for each endpoint; the last one said holds. Times are the caller's, in seconds."""

    def __init__(self) -> None:
        self._at: dict[EndpointId, float] = {}
        # Entries, and which of them counts for an endpoint: none is later than its time.
        self._entries: list[tuple[float, EndpointId]] = []
        self._counts: dict[EndpointId, float] = {}

    def put(self, endpoint: EndpointId, at: float) -> None:
        """It is to be looked at then."""
        self._at[endpoint] = at
        entry = self._counts.get(endpoint)
        # One that is put off is put off when the entry's turn comes: most are, again and again.
        if entry is None or at < entry:
            self._enter(endpoint, at)

    def _enter(self, endpoint: EndpointId, at: float) -> None:
        self._counts[endpoint] = at
        heapq.heappush(self._entries, (at, endpoint))

    def drop(self, endpoint: EndpointId) -> None:
        """Not any more; unknown ones change nothing."""
        self._at.pop(endpoint, None)

    def at(self, endpoint: EndpointId) -> float | None:
        """When it is its turn."""
        return self._at.get(endpoint)

    def due(self, now: float) -> list[EndpointId]:
        """Those whose time has come, the earliest first. They are off the agenda."""
        found = []
        while self._entries and self._entries[0][0] <= now:
            entry, endpoint = heapq.heappop(self._entries)
            if entry != self._counts.get(endpoint):
                continue
            del self._counts[endpoint]
            at = self._at.get(endpoint)
            if at is not None and at > now:
                self._enter(endpoint, at)
            elif at is not None:
                del self._at[endpoint]
                found.append(endpoint)
        return found

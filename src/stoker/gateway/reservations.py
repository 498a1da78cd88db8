"""Tickets for workers: who shows one goes to its worker. Pure and bounded; `gateway.keeper` feeds, `proxy` asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stoker.gateway.admission import Admission
from stoker.link.messages import ReservationEntry

RESERVATIONS_MAX: Final = 100_000


class Reservations:
    """All tickets that are not over. A ticket may be shown again until it expires: a client that was cut tries again.

    `admissions` are told of the load that a ticket announces until its first request comes.
    """

    def __init__(self, admissions: Mapping[str, Admission]) -> None:
        self._admissions = admissions
        # Those shown since they were last asked for; whoever tells control of them empties it.
        self.used: set[str] = set()
        # In the order of arrival; with the time at which each is over.
        self._tickets: dict[str, tuple[ReservationEntry, float]] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def put(self, entry: ReservationEntry, now: float) -> None:
        """A new ticket, or a new version of one. Beyond the bound the oldest is dropped."""
        self.drop(entry.id)
        if len(self._tickets) >= RESERVATIONS_MAX:
            self.drop(next(iter(self._tickets)))
        self._tickets[entry.id] = (entry, now + entry.expires_s)
        if (admission := self._admissions.get(entry.endpoint)) is not None:
            admission.reserve(entry)

    def drop(self, id: str) -> None:
        """It is over; unknown ones change nothing."""
        known = self._tickets.pop(id, None)
        if known is not None:
            self._unreserve(known[0])

    def clear(self) -> None:
        """Drop all."""
        for id in tuple(self._tickets):
            self.drop(id)

    def worker_of(self, id: str, endpoint: str, now: float) -> str | None:
        """A request for this endpoint shows the ticket: its worker, or `None` when it is not good (any more)."""
        known = self._tickets.get(id)
        if known is None or known[0].endpoint != endpoint or known[1] <= now:
            return None
        self._unreserve(known[0])
        self.used.add(id)
        return known[0].worker

    def sweep(self, now: float) -> None:
        """Drop those that are over."""
        for id in [id for id, (_, ends_at) in self._tickets.items() if ends_at <= now]:
            self.drop(id)

    def _unreserve(self, entry: ReservationEntry) -> None:
        if (admission := self._admissions.get(entry.endpoint)) is not None:
            admission.unreserve(entry.id)

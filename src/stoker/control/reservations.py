"""Reservations: the one door through which tickets for workers are made, found and given back.

They live in memory alone: one is made for each request that its caller announces, and holds for minutes at most. A row
for each would put the database on the way of requests, and what a restart of control forgets its callers ask for anew,
told so by the gateway (`reservation_gone`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from stoker.control.fleet import Fleet
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, authorise, permits
from stoker.domain.endpoint import Access, Endpoint, EndpointId, Phase
from stoker.domain.errors import Conflict, Forbidden, NotFound, Saturated, Unavailable
from stoker.domain.reservation import EXPIRES_S, Reservation, ReservationId, check_ticket
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.link.messages import ReservationEntry, Wake
from stoker.link.server import LinkServer
from stoker.policy.tickets import choose

# What an endpoint's workers could not work off in minutes is not announced either.
PER_ENDPOINT_MAX = 1_000
# Fewer than the gateway keeps, so that it never drops one that holds.
TOTAL_MAX = 50_000
ACK_WAIT_S = 1.0


class Demand(Protocol):
    """What `control.signals.Gateway` offers to this module."""

    def woken(self, wake: Wake) -> None: ...

    def loads(self, endpoint: EndpointId) -> dict[WorkerId, int]: ...


class Reservations:
    """All tickets that hold. Methods raise before they change anything."""

    def __init__(
        self,
        fleet: Fleet,
        link: LinkServer,
        demand: Demand,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._fleet = fleet
        self._link = link
        self._demand = demand
        self._clock = clock
        self._new_id = new_id
        self._tickets: dict[EndpointId, dict[ReservationId, Reservation]] = {}
        self._endpoints: dict[ReservationId, EndpointId] = {}
        self._number = 0

    async def create(
        self,
        by: Principal,
        endpoint: Endpoint,
        *,
        cost: float = 1.0,
        expires_s: float = EXPIRES_S,
        among: Callable[[Worker], bool] | None = None,
    ) -> Reservation:
        """A ticket for the least loaded worker. Raises `Unavailable` where none is ready, which wakes the endpoint as a
        waiting request does, `Saturated` beyond the bounds, `Conflict` for an endpoint that is not to run. With `among`
        it is one of these, and without any nothing is woken: whoever asks so counts who waits.
        """
        self._admit(by, Action.RESERVATION_CREATE, endpoint)
        check_ticket(cost, expires_s)
        if endpoint.phase is not Phase.ACTIVE:
            raise Conflict(f"the endpoint is {endpoint.phase}")
        kept = self._kept(endpoint.id)
        if len(kept) >= PER_ENDPOINT_MAX or len(self._endpoints) >= TOTAL_MAX:
            raise Saturated("too many reservations hold; use those there are, release some or wait until they expire")
        worker = self._chosen(endpoint.id, kept, cost, among)
        if worker is None:
            if among is None:
                self._demand.woken(Wake(endpoint.id, 1))
            raise Unavailable("no worker is ready; one is being woken: ask again in a moment")
        made = self._made(by, endpoint, worker, cost, expires_s)
        seq = self._link.put_reservation(
            ReservationEntry(made.id, made.endpoint, made.worker, expires_s=expires_s, cost=cost)
        )
        # A gateway that is away gets it with its table: nobody waits for long.
        await self._link.wait_acked(seq, timeout_s=ACK_WAIT_S)
        return made

    def list(self, by: Principal, endpoint: Endpoint) -> tuple[Reservation, ...]:
        """Those of the endpoint that hold, oldest first: the caller's own, or all for whoever may change it."""
        self._admit(by, Action.RESERVATION_LIST, endpoint)
        return tuple(ticket for ticket in self._kept(endpoint.id).values() if _sees(by, ticket))

    def get(self, by: Principal, endpoint: Endpoint, reference: str) -> Reservation:
        """The one of that id or number. Raises `NotFound` also for one that is over."""
        self._admit(by, Action.RESERVATION_READ, endpoint)
        for ticket in self._kept(endpoint.id).values():
            if reference in (ticket.id, str(ticket.number)) and _sees(by, ticket):
                return ticket
        raise NotFound(f"no reservation {reference[:64]!r} holds for this endpoint")

    def release(self, by: Principal, endpoint: Endpoint, reference: str) -> None:
        """Give it back; its load no longer counts."""
        self._admit(by, Action.RESERVATION_RELEASE, endpoint)
        self._drop(self.get(by, endpoint, reference))

    def used(self, tickets: tuple[str, ...]) -> None:
        """Requests have come with these: from now on they count as what they are."""
        for id in map(ReservationId, tickets):
            endpoint = self._endpoints.get(id)
            if endpoint is not None:
                self._tickets[endpoint][id] = replace(self._tickets[endpoint][id], used=True)

    async def sweep(self) -> None:
        """Forget what is over."""
        for endpoint in tuple(self._tickets):
            self._kept(endpoint)

    def _admit(self, by: Principal, action: Action, endpoint: Endpoint) -> None:
        authorise(by, action, project=endpoint.project, endpoint=endpoint.id, what="such endpoint")
        named = by.endpoints is not None and endpoint.id in by.endpoints
        if endpoint.spec.access is Access.ATTACHED and not named and not permits(by, Action.ENDPOINT_UPDATE):
            raise Forbidden("this key may not call this endpoint")

    def _kept(self, endpoint: EndpointId) -> dict[ReservationId, Reservation]:
        """The endpoint's tickets, after those that are over were dropped."""
        now = self._clock()
        kept = self._tickets.get(endpoint, {})
        for ticket in [each for each in kept.values() if not (each.holds(now) and self._stands(each.worker))]:
            self._drop(ticket)
        return self._tickets.get(endpoint, {})

    def _stands(self, worker: WorkerId) -> bool:
        found = self._fleet.worker(worker)
        return found is not None and found.state is WorkerState.READY

    def _chosen(
        self,
        endpoint: EndpointId,
        kept: dict[ReservationId, Reservation],
        cost: float,
        among: Callable[[Worker], bool] | None,
    ) -> Worker | None:
        reserved: dict[WorkerId, float] = {}
        for ticket in kept.values():
            reserved[ticket.worker] = reserved.get(ticket.worker, 0.0) + ticket.load
        able = [worker for worker in self._fleet.live(endpoint) if among is None or among(worker)]
        return choose(able, loads=self._demand.loads(endpoint), reserved=reserved, cost=cost)

    def _made(self, by: Principal, endpoint: Endpoint, worker: Worker, cost: float, expires_s: float) -> Reservation:
        now = self._clock()
        # Greater than any before a restart too, without a row: nobody makes a thousand in a second for long.
        self._number = max(self._number + 1, int(now * 1_000))
        made = Reservation(
            id=ReservationId(self._new_id()),
            number=self._number,
            endpoint=endpoint.id,
            project=endpoint.project,
            worker=worker.id,
            key=by.key,
            cost=cost,
            created_at=now,
            expires_at=now + expires_s,
        )
        self._tickets.setdefault(endpoint.id, {})[made.id] = made
        self._endpoints[made.id] = endpoint.id
        return made

    def _drop(self, ticket: Reservation) -> None:
        kept = self._tickets[ticket.endpoint]
        del kept[ticket.id]
        del self._endpoints[ticket.id]
        if not kept:
            del self._tickets[ticket.endpoint]
        if ticket.holds(self._clock()):
            # One that has expired the gateway forgets by itself.
            self._link.drop_reservation(ticket.id)


def _sees(by: Principal, ticket: Reservation) -> bool:
    # A ticket is for whoever asked for it; who may change the endpoint may also see what waits for it.
    return ticket.key == by.key or permits(by, Action.ENDPOINT_UPDATE)

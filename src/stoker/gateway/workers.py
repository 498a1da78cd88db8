"""An endpoint's workers as admission sees them: their slots, and which of them takes the next request.

Pure: time is an argument. Only `gateway.admission` changes what is counted here.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from typing import NamedTuple

from stoker.link.messages import ReservationEntry, WorkerEntry

# A worker that cut a request may be dying: its sockets close one after the other, and what is sent to it in between is
# lost. A new connection after this long is either taken by a living worker or refused.
REST_S = 0.05


class Place(NamedTuple):
    """One address of a worker."""

    id: str
    host: str
    port: int


class Worker:
    """One worker as admission sees it. `down`: it refused a connection, and the table has not mentioned it since.

    `gone`: no longer in the table, kept until its last request has ended. `rests_until`: it gets nothing before.
    `place` is its index among the open ones.
    `reserved` is the load that reservations announce, in requests.
    """

    __slots__ = (
        "down",
        "draining",
        "gone",
        "host",
        "id",
        "in_flight",
        "order",
        "place",
        "port",
        "ports",
        "reserved",
        "rests_until",
        "slots",
    )

    def __init__(self, entry: WorkerEntry) -> None:
        self.id = entry.id
        self.in_flight = 0
        self.place = 0
        self.reserved = 0.0
        self.gone = False
        self.rests_until = 0.0
        self.take(entry)

    def take(self, entry: WorkerEntry) -> None:
        """Adopt what the table says now."""
        self.host = entry.host
        self.port = entry.port
        self.ports = entry.ports
        self.slots = entry.slots
        self.order = entry.order
        self.draining = entry.draining
        self.down = False

    def at(self, declared: int) -> Place | None:
        """Where it listens for what was declared as this port, if that is known."""
        own = dict(self.ports).get(declared)
        return None if own is None else Place(self.id, self.host, own)

    @property
    def open(self) -> bool:
        """May it get new requests, slots allowing?"""
        return not (self.draining or self.down or self.gone)


class Workers:
    """All workers of one endpoint. `open`: those that may get requests, the oldest first; `down` ones are among them.

    `pack`: of equally loaded ones the oldest is chosen, else each in turn: the first from place `start` on. `fill`: the
    oldest that has a free slot, however loaded.
    """

    __slots__ = ("_reserved", "fill", "known", "open", "pack", "start")

    def __init__(self) -> None:
        self.pack = self.fill = False
        self.open: list[Worker] = []
        self.known: dict[str, Worker] = {}
        self.start = 0
        # Load by reservation and its worker; of workers that are not known yet, too.
        self._reserved: dict[str, tuple[str, float]] = {}

    def take(self, entries: Iterable[WorkerEntry], *, leaving: bool) -> None:
        """Adopt what the table says now. While `leaving`, the slots of known workers never grow."""
        listed = {entry.id: entry for entry in entries}
        for worker in self.known.values():
            worker.gone = worker.id not in listed
        for entry in listed.values():
            known = self.known.get(entry.id)
            if known is None:
                worker = self.known[entry.id] = Worker(entry)
                worker.reserved = sum(cost for id, cost in self._reserved.values() if id == entry.id)
            else:
                slots = known.slots
                known.take(entry)
                if leaving:
                    known.slots = min(slots, known.slots)
        self.drop_idle_gone()

    def drop_idle_gone(self) -> None:
        """Forget those that are gone and idle."""
        for worker in [w for w in self.known.values() if w.gone and not w.in_flight]:
            del self.known[worker.id]
        self.open = []
        for worker in self.known.values():
            if not (worker.gone or worker.draining):
                insort(self.open, worker, key=lambda w: w.order)
        for place, worker in enumerate(self.open):
            worker.place = place

    def leaves(self, id: str) -> bool:
        """Will this worker never take a request again, as far as the table says?"""
        worker = self.known.get(id)
        return worker is None or worker.gone or worker.draining

    def free(self, now: float, *, pin: str | None = None, prefer: str | None = None) -> Worker | None:
        """The worker for a request: `pin` or none, `prefer` if it can, else the least loaded for its slots or, to be
        filled, the oldest.
        """
        if pin is not None:
            return self._if_free(pin, now)
        if prefer is not None and (preferred := self._if_free(prefer, now)) is not None:
            return preferred
        workers = self.open
        count = len(workers)
        start = 0 if self.pack or self.fill or self.start >= count else self.start
        best: Worker | None = None
        for index in range(start, start + count):
            worker = workers[index if index < count else index - count]
            load = worker.in_flight
            if load >= worker.slots or worker.down or worker.rests_until > now:
                continue
            if load == 0 and not worker.reserved:
                # Nothing further on can be better than an idle one.
                return worker
            if self.fill and load + worker.reserved < worker.slots:
                return worker
            # Fractions compared without dividing: a big worker takes more than a small one.
            if best is None or (load + worker.reserved) * best.slots < (best.in_flight + best.reserved) * worker.slots:
                best = worker
        return best

    def _if_free(self, id: str, now: float) -> Worker | None:
        worker = self.known.get(id)
        if worker is None or not worker.open or worker.in_flight >= worker.slots or worker.rests_until > now:
            return None
        return worker

    def slots_free(self, now: float) -> int:
        """How many requests could go at once."""
        return sum(
            w.slots - w.in_flight for w in self.open if not w.down and w.rests_until <= now and w.slots > w.in_flight
        )

    def keep_only(self, waiting: int) -> dict[str, int]:
        """Give up the slots that neither requests in flight nor `waiting` ones can use. What is kept, by worker."""
        for worker in self.known.values():
            worker.slots = min(worker.slots, worker.in_flight + waiting)
        return {worker.id: worker.slots for worker in self.known.values() if worker.slots}

    def reserve(self, entry: ReservationEntry) -> None:
        """Count its cost as load."""
        self.unreserve(entry.id)
        self._reserved[entry.id] = (entry.worker, entry.cost)
        if (worker := self.known.get(entry.worker)) is not None:
            worker.reserved += entry.cost

    def unreserve(self, id: str) -> None:
        """Its request has come, or it has expired."""
        worker_id, cost = self._reserved.pop(id, ("", 0.0))
        if (worker := self.known.get(worker_id)) is not None:
            # Exact when nothing is reserved: what remains of sums and differences is no load.
            rest = any(known == worker_id for known, _ in self._reserved.values())
            worker.reserved = max(0.0, worker.reserved - cost) if rest else 0.0

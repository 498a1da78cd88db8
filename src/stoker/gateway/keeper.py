"""Keeps the table in force: takes it from the link and from disk, with one admission for each endpoint.

`gateway.proxy` looks things up here; nothing here knows of connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from stoker.gateway.admission import Admission, Worker
from stoker.gateway.ledger import Ledger
from stoker.gateway.pools import Upstreams
from stoker.gateway.quotas import Quotas
from stoker.gateway.reports import Reporter
from stoker.gateway.reservations import Reservations
from stoker.gateway.table import Table, TableFile
from stoker.gateway.workers import Place
from stoker.link.client import LinkClient
from stoker.link.messages import Delta, EndpointEntry, ReservationEntry, Snapshot, WorkerEntry
from stoker.paths import Paths

log = structlog.get_logger(__name__)

# After a gateway began to leave: how long it keeps slots for requests of which it has seen a part.
BEGUN_S_MAX: Final = 2.0


class Keeper:
    """The link's `TableHolder`. `time` is the event loop's.

    `leaving`: another gateway takes over; this one takes no more than what its present requests need. `left`: and no
    request any more.
    """

    def __init__(
        self,
        paths: Paths,
        upstreams: Upstreams,
        ledger: Ledger,
        *,
        incarnation: str,
        successor: bool,
        time: Callable[[], float],
    ) -> None:
        self.table = Table()
        self.admissions: dict[str, Admission] = {}
        self.reservations = Reservations(self.admissions)
        self.quotas = Quotas()
        attempts = paths.attempts_socket(incarnation).name
        self.link = LinkClient(paths.link_socket, self, incarnation=incarnation, successor=successor, attempts=attempts)
        self.reporter = Reporter(self.link, ledger, time(), self.table.keys_used, self.reservations.used)
        self.leaving = False
        self.left = False
        self._begun: Callable[[], int] = int
        self._begun_until = 0.0
        self.heard = asyncio.Event()
        self._upstreams = upstreams
        self._ledger = ledger
        self._time = time
        self._file = TableFile(paths.table)
        self._unsaved = False
        self._saving: asyncio.Future[None] | None = None

    def load(self) -> None:
        """Start from the table that the last gateway left behind, if there is one."""
        saved = self._file.load()
        if saved is not None:
            self._adopt(saved)

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """The link brings the whole table."""
        if self.leaving:
            # Control had lost sight of this gateway: workers that are new here are the successor's alone.
            entries = tuple(self._known_only(entry) for entry in snapshot.endpoints)
            snapshot = msgspec.structs.replace(snapshot, endpoints=entries)
        self._adopt(snapshot)
        self._unsaved = True
        self.heard.set()
        self.reporter.report_all(self.admissions.values(), self._time(), self.table.seq)

    def _known_only(self, entry: EndpointEntry) -> EndpointEntry:
        before = self.table.endpoints.get(entry.id)
        known = frozenset() if before is None else frozenset(worker.id for worker in before.workers)
        return msgspec.structs.replace(entry, workers=tuple(w for w in entry.workers if w.id in known))

    def _adopt(self, snapshot: Snapshot) -> None:
        before = self.table.endpoints.keys() - {entry.id for entry in snapshot.endpoints}
        self.table.replace(snapshot)
        for endpoint in before:
            self._withdraw(endpoint)
        for entry in snapshot.endpoints:
            self._admit_by(entry)
        self.reservations.clear()
        self._reserve(snapshot.reservations)
        self.quotas.keep(self.table.keys)

    def take_delta(self, delta: Delta) -> None:
        """The link brings changes."""
        self.table.change(delta)
        self._unsaved = True
        for endpoint in delta.endpoints_gone:
            self._withdraw(endpoint)
        for entry in delta.endpoints:
            self._admit_by(entry)
        for reservation in delta.reservations_gone:
            self.reservations.drop(reservation)
        self._reserve(delta.reservations)
        if delta.keys_gone:
            self.quotas.keep(self.table.keys)

    def _reserve(self, entries: tuple[ReservationEntry, ...]) -> None:
        now = self._time()
        for entry in entries:
            self.reservations.put(entry, now)

    def _admit_by(self, entry: EndpointEntry) -> None:
        admission = self.admissions.get(entry.id)
        if admission is None:
            reporter = self.reporter
            self.admissions[entry.id] = admission = Admission(
                entry, self._time(), on_touched=reporter.touched, on_wait=reporter.waits, on_free=reporter.freed
            )
            if self.leaving:
                admission.leave_to_successor()
            return
        known = {worker.id: (worker.host, worker.port) for worker in entry.workers if not worker.draining}
        for worker in admission.entry.workers:
            if known.get(worker.id) != (worker.host, worker.port):
                self._drop(worker)
        admission.update(entry, self._time())

    def _withdraw(self, endpoint: str) -> None:
        admission = self.admissions.get(endpoint)
        if admission is not None:
            for worker in admission.entry.workers:
                self._drop(worker)
            admission.close(self._time())

    def _drop(self, worker: WorkerEntry) -> None:
        self._upstreams.drop(worker)
        for _, own in worker.ports:
            self._upstreams.drop(Place(worker.id, worker.host, own))

    def worker_down(self, admission: Admission, worker: Worker, detail: str) -> None:
        """A worker refused a connection."""
        if admission.mark_down(worker):
            log.warning("worker_refuses", endpoint=admission.entry.id, worker=worker.id, error=detail)
            self._upstreams.drop(worker)
            self.reporter.worker_down(admission, worker.id, detail)

    def leave(self, begun: Callable[[], int]) -> None:
        """Another gateway takes over: say so to control, with what is still needed here. `begun` counts requests of
        which a part is here, but not yet where they go: for `BEGUN_S_MAX`, any endpoint may be theirs.
        """
        self.leaving = True
        self._begun = begun
        self._begun_until = self._time() + BEGUN_S_MAX
        self.reporter.begun = begun()
        for admission in self.admissions.values():
            admission.leave_to_successor()
        self.link.leave()
        self.reporter.report_all(self.admissions.values(), self._time(), self.table.seq)

    def tick(self, now: float) -> None:
        """A quarter of a second has passed: deadlines of those who wait, and reports."""
        for admission in tuple(self.admissions.values()):
            admission.expire(now)
        if self.leaving and not self.left:
            self._give_up(now)
        self.report(self._time())

    def report(self, now: float) -> None:
        """Tell control what has happened since the last report."""
        self.reporter.report(self.admissions, now, self.table.seq)

    def _give_up(self, now: float) -> None:
        """Slots for requests that had begun: they have come, or take too long."""
        self.left = now >= self._begun_until
        begun = 0 if self.left else self._begun()
        if begun < self.reporter.begun:
            self.reporter.begun = begun
            self.reporter.report_all(self.admissions.values(), self._time(), self.table.seq)

    def sweep(self, now: float) -> None:
        """A second has passed: forget what is over."""
        self.reservations.sweep(now)
        gone = [
            endpoint
            for endpoint, admission in self.admissions.items()
            if endpoint not in self.table.endpoints and not (admission.in_flight or admission.touched)
        ]
        for endpoint in gone:
            del self.admissions[endpoint]
        self._ledger.forget(gone)

    def save(self) -> None:
        """Write the table to disk if it has changed, outside the event loop."""
        if not self._unsaved or self.leaving or (self._saving is not None and not self._saving.done()):
            return
        self._unsaved = False
        loop = asyncio.get_running_loop()
        self._saving = loop.run_in_executor(None, self._file.save, self.table.to_snapshot())
        self._saving.add_done_callback(_log_save)


def _log_save(saving: asyncio.Future[None]) -> None:
    if not saving.cancelled() and (exc := saving.exception()) is not None:
        log.warning("table_not_saved", error=str(exc))

"""What the gateway tells control of its traffic, through the link: reports, wakes, workers that refuse connections.

Never on the path of a request but for one message when a request begins to wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from stoker.gateway.admission import Admission
from stoker.gateway.ledger import Ledger
from stoker.link.client import LinkClient
from stoker.link.messages import EndpointReport, Report, Wake, WorkerDown

# Empty reports say that the gateway lives, and endpoints with requests are told of although nothing began or ended.
HEARTBEAT_S: Final = 1.0


class Reporter:
    """Collects the endpoints that something happened to, and reports them when told to."""

    def __init__(self, link: LinkClient, ledger: Ledger, started_at: float) -> None:
        self._link = link
        self._ledger = ledger
        self._started_at = started_at
        self._touched: list[Admission] = []
        self._reported_at = started_at

    def touched(self, admission: Admission) -> None:
        """Something happened to it; called once per report."""
        self._touched.append(admission)

    def waits(self, admission: Admission) -> None:
        """A request begins to wait; called once per report."""
        self._link.send(Wake(admission.entry.id, admission.waiting))

    def worker_down(self, admission: Admission, worker: str, reason: str) -> None:
        """A worker refused a connection."""
        self._link.send(WorkerDown(admission.entry.id, worker, reason))

    def report(self, admissions: Mapping[str, Admission], now: float, seq: int) -> None:
        """Report what was touched, and once a second at least everything that is busy."""
        if not self._link.connected:
            return
        due = now - self._reported_at >= HEARTBEAT_S
        if not (self._touched or due or self._ledger.news):
            return
        touched, self._touched = self._touched, []
        reports = [admission.report(now) for admission in touched]
        if due:
            known = {report.id for report in reports}
            busy = (a for a in admissions.values() if (a.in_flight or a.waiting) and a.entry.id not in known)
            reports += [admission.report(now) for admission in busy]
        self._send(reports, now, seq)

    def report_all(self, admissions: Iterable[Admission], now: float, seq: int) -> None:
        """After a connection: everything, and again who waits."""
        self._touched = []
        self._ledger.say_again()
        admissions = list(admissions)
        waiting = [admission for admission in admissions if admission.waiting]
        self._send([admission.report(now) for admission in admissions], now, seq)
        for admission in waiting:
            admission.woken = True
            self.waits(admission)

    def _send(self, reports: list[EndpointReport], now: float, seq: int) -> None:
        self._reported_at = now
        usage, facts = self._ledger.take()
        report = Report(seq, now - self._started_at, tuple(reports), usage, facts, self._ledger.dropped)
        if not self._link.send(report):
            self._ledger.unsaid(len(facts))

"""What the gateway tells control of its traffic, through the link: reports, wakes, workers that refuse connections.

Never on the path of a request but for one message when a request begins to wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from stoker.gateway.admission import Admission
from stoker.gateway.ledger import Ledger
from stoker.link.client import LinkClient
from stoker.link.messages import EndpointReport, Freed, Report, Wake, WorkerDown

# Empty reports say that the gateway lives, and endpoints with requests are told of although nothing began or ended.
HEARTBEAT_S: Final = 1.0


class Reporter:
    """Collects the endpoints that something happened to, and reports them when told to."""

    def __init__(
        self, link: LinkClient, ledger: Ledger, started_at: float, keys_used: set[str], tickets_used: set[str]
    ) -> None:
        """`keys_used` and `tickets_used` are emptied with every report that tells of them."""
        self._tickets_used = tickets_used
        self._link = link
        self._keys_used = keys_used
        self._ledger = ledger
        self._started_at = started_at
        self._touched: list[Admission] = []
        self._reported_at = started_at
        self._freed: dict[str, Admission] = {}
        # Of a gateway that leaves: requests that have begun and may be for any endpoint.
        self.begun = 0

    def touched(self, admission: Admission) -> None:
        """Something happened to it; called once per report."""
        self._touched.append(admission)

    def waits(self, admission: Admission) -> None:
        """A request begins to wait, or was refused for want of any worker; called once per report."""
        self._link.send(Wake(admission.entry.id, max(1, admission.waiting)))

    def freed(self, admission: Admission) -> None:
        """A slot may be free that tasks wait for; said once for all that happens in one turn of the event loop."""
        if not self._freed:
            asyncio.get_running_loop().call_soon(self._tell_freed)
        self._freed[admission.entry.id] = admission

    def _tell_freed(self) -> None:
        freed, self._freed = self._freed, {}
        for admission in freed.values():
            if slots := admission.slots_free():
                self._link.send(Freed(admission.entry.id, slots))

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
        reports = [admission.report(now, self.begun) for admission in touched]
        if due:
            known = {report.id for report in reports}
            busy = (a for a in admissions.values() if (a.in_flight or a.waiting) and a.entry.id not in known)
            reports += [admission.report(now, self.begun) for admission in busy]
        self._send(reports, now, seq)

    def report_all(self, admissions: Iterable[Admission], now: float, seq: int) -> None:
        """After a connection: everything, and again who waits."""
        self._touched = []
        self._ledger.say_again()
        admissions = list(admissions)
        waiting = [admission for admission in admissions if admission.waiting]
        self._send([admission.report(now, self.begun) for admission in admissions], now, seq)
        for admission in waiting:
            admission.woken = True
            self.waits(admission)

    def _send(self, reports: list[EndpointReport], now: float, seq: int) -> None:
        self._reported_at = now
        used = tuple(self._keys_used)
        self._keys_used.clear()
        tickets = tuple(self._tickets_used)
        self._tickets_used.clear()
        usage, facts = self._ledger.take()
        measures = self._ledger.measures.take()
        dropped, uptime_s = self._ledger.dropped, now - self._started_at
        report = Report(seq, uptime_s, tuple(reports), usage, facts, dropped, measures, used, tickets)
        if not self._link.send(report):
            self._ledger.unsaid(len(facts))

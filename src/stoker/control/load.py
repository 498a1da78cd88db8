"""Load as it stands: what workers report of themselves, and the requests that were announced and have not come yet.

In memory: workers report again within seconds, and whoever announced asks again. Faces bring both in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from stoker.control.fleet import Fleet
from stoker.control.reservations import Reservations
from stoker.domain.access import Principal
from stoker.domain.endpoint import Endpoint, EndpointId, Phase
from stoker.domain.errors import NotFound, Saturated, Unavailable
from stoker.domain.hardware import machine_of
from stoker.domain.load import USUAL, Announcement, Trial, WorkReport, check_cost
from stoker.domain.reservation import COST_MAX
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.policy.signals import Reading

# Whoever waits asks again every few seconds.
ASKED_S_MAX = 30.0
# How long a ticket holds that nobody has come with.
TICKET_S = 60.0
# One that got its worker is known for so long: its client may have it tried again.
KNOWN_S = 600.0
PER_ENDPOINT_MAX = 1_000
RATE_WINDOW_S = 60.0
# Sums of a quarter of a second: the window's costs stay few.
RATE_STEP_S = 0.25
# Whatever has not come up by then is not worth waiting for.
MEASURE_S_MAX = 600.0
# Two reports of a quiet worker are eleven seconds apart at most.
SILENT_S_MAX = 60.0
# The first report comes a second after it listens; a worker that says nothing until then is one that never does.
SILENT_START_S = 5.0


class Told(Protocol):
    """What the reconciler offers to this module."""

    def worker_unready(self, worker: WorkerId, why: str | None) -> None: ...

    def worker_unhealthy(self, worker: WorkerId, why: str) -> None: ...


class Load:
    """See the module. `changed(endpoint)` is told when other requests wait."""

    def __init__(
        self,
        fleet: Fleet,
        reservations: Reservations,
        told: Told,
        *,
        changed: Callable[[EndpointId], None],
        machines: Callable[[Endpoint], int],
        proves: Callable[[str, WorkerId], bool],
        clock: Callable[[], float],
    ) -> None:
        """`machines(endpoint)` is how many there are that could have a worker of it; `proves(token, worker)` says
        whether the token is that worker's.
        """
        self._proves = proves
        self._machines = machines
        self._perfs: dict[EndpointId, float] = {}
        # The machines on which they have measured.
        self._measured: dict[EndpointId, set[str]] = {}
        self._fleet = fleet
        self._reservations = reservations
        self._told = told
        self._changed = changed
        self._clock = clock
        self._reports: dict[WorkerId, WorkReport] = {}
        # Of workers that were looked for: who reports does so every few seconds.
        self._numbers: dict[int, WorkerId] = {}
        self._announced: dict[EndpointId, dict[int, Announcement]] = {}
        self._costs: dict[EndpointId, deque[tuple[float, float]]] = {}
        self._number = 0

    # Workers

    def worker(self, number: int, token: str) -> Worker | None:
        """The living worker of that number, if that is its token."""
        found = self._living(number)
        return found if found is not None and self._proves(token, found.id) else None

    def _living(self, number: int) -> Worker | None:
        known = self._numbers.get(number)
        found = None if known is None else self._fleet.worker(known)
        if found is None:
            found = next((w for w in self._fleet.all_workers() if w.number == number), None)
        if found is None or found.gone:
            return None
        self._numbers[number] = found.id
        return found

    def reported(self, worker: Worker, report: WorkReport) -> None:
        """A worker says how it is. One that has failed is replaced, one that is not loaded gets no requests yet."""
        before = self._reports.get(worker.id)
        self._reports[worker.id] = report
        if report.error:
            self._told.worker_unhealthy(worker.id, report.error)
            return
        if before is None or before.loaded is not report.loaded:
            self._told.worker_unready(worker.id, None if report.loaded else "its model is not loaded yet")
            self._changed(worker.endpoint)
        for number in report.requests:
            self._came(worker.endpoint, number)

    def report_of(self, worker: WorkerId) -> WorkReport | None:
        """The last that it said."""
        return self._reports.get(worker)

    def perf(self, worker: Worker) -> float:
        """The load that it can do in a second: measured, or 100 for each slot."""
        report = self._reports.get(worker.id)
        return report.perf if report is not None and report.perf else USUAL * worker.slots

    # Requests

    async def announce(
        self, by: Principal, endpoint: Endpoint, *, cost: float, number: int = 0, silent: bool = False, wait_s: float
    ) -> Announcement:
        """A request that is to come, or (`number`) one that is asked for again, which counts once. Its worker is the
        least loaded one that would be through with what it has within `wait_s`; without any it waits. `silent`: workers
        report, so that a new one that has not yet is not ready. Raises `Saturated`, and what reservations raise.
        """
        check_cost(cost)
        now = self._clock()
        self._forget(endpoint.id, now)
        known = self._announced.setdefault(endpoint.id, {})
        found = known.get(number)
        if found is None:
            if len(known) >= PER_ENDPOINT_MAX:
                raise Saturated("too many requests are announced and have not come; try again in a moment")
            # Greater than any before a restart too, without a row.
            self._number = max(self._number + 1, int(now * 1_000))
            found = Announcement(number=self._number, endpoint=endpoint.id, cost=cost, at=now, asked_at=now)
            self._count(endpoint.id, cost, now)
        elif found.reservation is not None:
            self._give_back(by, endpoint, found)
        found = replace(found, asked_at=now, worker=None, reservation=None)
        known[found.number] = found
        found = await self._placed(by, endpoint, found, silent=silent, wait_s=wait_s)
        known[found.number] = found
        if found.worker is None:
            self._changed(endpoint.id)
        return found

    async def _placed(
        self, by: Principal, endpoint: Endpoint, found: Announcement, *, silent: bool, wait_s: float
    ) -> Announcement:
        if endpoint.phase is not Phase.ACTIVE:
            return found

        underway: dict[WorkerId, float] = {}
        for each in self._announced.get(endpoint.id, {}).values():
            if each.worker is not None:
                underway[each.worker] = underway.get(each.worker, 0.0) + each.cost

        def able(worker: Worker) -> bool:
            report = self._reports.get(worker.id)
            busy = max(0.0 if report is None else report.load, underway.get(worker.id, 0.0))
            return self.loaded(worker, silent=silent) and busy / self.perf(worker) < wait_s

        try:
            ticket = await self._reservations.create(
                by,
                endpoint,
                cost=min(max(found.cost / USUAL, 0.001), COST_MAX),
                expires_s=TICKET_S,
                among=able,
            )
        except Unavailable:
            return found
        return replace(found, worker=ticket.worker, reservation=ticket.id)

    def loaded(self, worker: Worker, *, silent: bool) -> bool:
        """Is a ready worker through with loading? `silent`: as in `announce`."""
        report = self._reports.get(worker.id)
        if report is not None:
            return report.loaded and not report.error
        ready_s = 0.0 if worker.ready_at is None else self._clock() - worker.ready_at
        return not silent or ready_s >= SILENT_START_S

    def ended(self, worker: Worker, number: int) -> None:
        """The request of that number is over, whatever became of it."""
        known = self._announced.get(worker.endpoint, {})
        self._came(worker.endpoint, number)
        known.pop(number, None)

    def waiting(self, endpoint: EndpointId) -> tuple[int, float]:
        """How many announced requests have no worker, and what they cost together."""
        self._forget(endpoint, self._clock())
        costs = [a.cost for a in self._announced.get(endpoint, {}).values() if a.worker is None]
        return len(costs), sum(costs)

    def rate(self, endpoint: EndpointId) -> float:
        """Load that was announced, per second, of the last minute."""
        costs = self._costs.get(endpoint)
        if not costs:
            return 0.0
        now = self._clock()
        while costs and now - costs[0][0] > RATE_WINDOW_S:
            costs.popleft()
        return sum(cost for _, cost in costs) / RATE_WINDOW_S

    def readings(self, endpoint: Endpoint, trial: Trial | None) -> dict[str, Reading]:
        """What is known of its load, by the names of `Signals`."""
        known: dict[str, float] = {
            "announced_per_s": self.rate(endpoint.id),
            "announced_waiting": self.waiting(endpoint.id)[1],
            "announced_perf": self.perf_of(endpoint),
        }
        if trial is not None and (tried := self._to_measure(endpoint, trial)):
            known["trial"] = tried
        return {name: Reading(value, 0.0) for name, value in known.items()}

    def perf_of(self, endpoint: Endpoint) -> float:
        """What a worker of it does in a second: the mean of those that have measured it, or of the last that had; else
        100 for each slot.
        """
        reports = [self._reports.get(worker.id) for worker in self._fleet.live(endpoint.id)]
        measured = [report.perf for report in reports if report is not None and report.perf]
        if measured:
            self._perfs[endpoint.id] = sum(measured) / len(measured)
        return self._perfs.get(endpoint.id, USUAL * endpoint.slots)

    def _to_measure(self, endpoint: Endpoint, trial: Trial) -> int:
        """On how many machines workers are to measure their perf; none once they have on so many, or after a while."""
        if not trial.workers or self._clock() - trial.since > MEASURE_S_MAX:
            return 0
        wanted = min(trial.workers, self._machines(endpoint))
        known = self._measured.setdefault(endpoint.id, set())
        ready = [w for w in self._fleet.live(endpoint.id) if w.state is WorkerState.READY]
        loaded = [w.placement for w in ready if self.loaded(w, silent=True)]
        known.update(machine_of(placement.host) for placement in loaded if placement is not None)
        return 0 if len(known) >= wanted else wanted

    async def sweep(self) -> None:
        """Forget what is over, and workers that say nothing any more."""
        now = self._clock()
        for endpoint in tuple(self._announced):
            self._forget(endpoint, now)
        for books in (self._costs, self._perfs, self._measured):
            for endpoint in [e for e in books if self._fleet.endpoint(e) is None]:
                del books[endpoint]
        self._numbers = {n: id for n, id in self._numbers.items() if self._fleet.worker(id) is not None}
        for id, report in tuple(self._reports.items()):
            worker = self._fleet.worker(id)
            if worker is None or worker.gone:
                del self._reports[id]
            elif worker.state is WorkerState.READY and now - report.at > SILENT_S_MAX and report.loaded:
                self._reports[id] = replace(report, loaded=False)
                self._told.worker_unready(id, f"it has reported nothing for {SILENT_S_MAX:g} s")

    def _forget(self, endpoint: EndpointId, now: float) -> None:
        known = self._announced.get(endpoint, {})
        for each in tuple(known.values()):
            limit = ASKED_S_MAX if each.worker is None else KNOWN_S
            if now - each.asked_at > limit:
                del known[each.number]
        if not known:
            self._announced.pop(endpoint, None)

    def _count(self, endpoint: EndpointId, cost: float, now: float) -> None:
        costs = self._costs.setdefault(endpoint, deque())
        if costs and now - costs[-1][0] < RATE_STEP_S:
            costs[-1] = (costs[-1][0], costs[-1][1] + cost)
        else:
            costs.append((now, cost))
        while now - costs[0][0] > RATE_WINDOW_S:
            costs.popleft()

    def _came(self, endpoint: EndpointId, number: int) -> None:
        found = self._announced.get(endpoint, {}).get(number)
        if found is not None and found.reservation is not None:
            self._reservations.used((found.reservation,))

    def _give_back(self, by: Principal, endpoint: Endpoint, found: Announcement) -> None:
        assert found.reservation is not None
        try:
            self._reservations.release(by, endpoint, found.reservation)
        except NotFound:
            # It has expired, or its worker is gone.
            return

"""Counts what is used: the gateway's reports and the time of workers, by hour, into the store; facts into segments.

A report's sums are cumulative by gateway. How far each is counted is written in the same transaction as what was
counted, so that neither a report that comes twice nor a restart of either side counts anything twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import islice

import structlog
from sqlalchemy import Connection

from stoker.control.fleet import Fleet
from stoker.domain.access import Principal
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.errors import Invalid
from stoker.domain.usage import HOUR_S, By, Hardware, RequestFact, RequestUsage, UsageReport, UsageRow, WorkerUsage
from stoker.domain.worker import Worker
from stoker.link.messages import FactEntry, Report
from stoker.policy.accounting import hour_of, time_of
from stoker.store import usage as rows
from stoker.store.base import Store
from stoker.store.usage import MarkOf, RequestsOf, Scope, WorkersOf
from stoker.telemetry.segments import Segments

log = structlog.get_logger(__name__)

# A gateway that was away so long does not come back: its sums need not be remembered.
MARKS_KEPT_S = 86_400.0
# After a start of control, until providers have been listed and workers that ended meanwhile are known to have.
SETTLING_S = 10.0
# Ended workers are remembered for longer than this.
ACCRUE_S = 30.0
GROUPS_MAX = 1_000
FACTS_AT_ONCE = 2_000
HOURS_MAX = 24 * 366

# A worker to its hardware's name and price per hour, where one is known.
Priced = Callable[[Worker], tuple[str, float | None]]


@dataclass(slots=True)
class _Pending:
    """What is counted and not written yet."""

    requests: dict[RequestsOf, RequestUsage] = field(default_factory=dict)
    marks: dict[MarkOf, RequestUsage] = field(default_factory=dict)
    names: dict[EndpointId, str] = field(default_factory=dict)


class Usage:
    """`load` before the first report; `step` every few seconds; `close` writes what is left."""

    def __init__(
        self, fleet: Fleet, store: Store, segments: Segments, *, clock: Callable[[], float], priced: Priced
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._segments = segments
        self._clock = clock
        self._priced = priced
        self._marks: dict[MarkOf, RequestUsage] = {}
        self._pending = _Pending()
        self._projects: dict[EndpointId, ProjectId] = {}
        # As they are recorded, or about to be.
        self._named: dict[EndpointId, str] = {}
        self._tokens: dict[EndpointId, int] = {}
        self._incarnation: str | None = None
        self._until = clock()
        self._settled_at = clock() + SETTLING_S
        self.facts_dropped = 0

    async def load(self) -> None:
        """Read how far everything is counted."""

        def read(tx: Connection) -> tuple[dict[MarkOf, RequestUsage], float | None]:
            return rows.marks(tx), rows.accrued_until(tx)

        self._marks, until = await self._store.read(read)
        self._until = self._clock() if until is None else until
        self._settled_at = self._clock() + SETTLING_S

    # Counting

    def reported(self, report: Report, *, incarnation: str) -> None:
        """Take in what the gateway of that incarnation says."""
        now = self._clock()
        self._incarnation = incarnation
        self.facts_dropped = report.facts_dropped
        for entry in report.usage:
            endpoint = EndpointId(entry.endpoint)
            total = RequestUsage(
                requests=entry.requests,
                errors=entry.errors,
                metered=entry.metered,
                prompt_tokens=entry.prompt_tokens,
                completion_tokens=entry.completion_tokens,
            )
            mark = MarkOf(incarnation, endpoint, entry.key or "")
            grown = total.since(self._marks.get(mark, RequestUsage()))
            if not grown.empty:
                self._tokens[endpoint] = self._tokens.get(endpoint, 0) + grown.completion_tokens
                self._marks[mark] = self._pending.marks[mark] = total
                self._add(RequestsOf(hour_of(now), ProjectId(entry.project), endpoint, entry.key or ""), grown)
        self._keep(report, now)

    def _add(self, of: RequestsOf, grown: RequestUsage) -> None:
        pending = self._pending
        pending.requests[of] = pending.requests.get(of, RequestUsage()).plus(grown)
        self._name(of.endpoint)

    def completion_tokens(self, endpoint: EndpointId) -> int:
        """All that answers of the endpoint told since the start of this control."""
        return self._tokens.get(endpoint, 0)

    def _name(self, endpoint: EndpointId) -> None:
        known = self._fleet.endpoint(endpoint)
        if known is not None and self._named.get(endpoint) != known.spec.name:
            self._named[endpoint] = self._pending.names[endpoint] = known.spec.name

    def _keep(self, report: Report, now: float) -> None:
        facts: dict[EndpointId, list[RequestFact]] = {}
        for entry in report.facts:
            endpoint = EndpointId(entry.endpoint)
            if self._fleet.endpoint(endpoint) is not None:
                facts.setdefault(endpoint, []).append(_fact(entry, began_at=now - report.uptime_s))
        for endpoint, those in facts.items():
            self._segments.append(endpoint, those, now=now)

    async def facts(
        self, endpoint: EndpointId, *, since: float, until: float
    ) -> AsyncIterator[tuple[RequestFact, ...]]:
        """Facts of single requests of that time in the order of arrival, some at a time, as far as they are on disk."""
        found = self._segments.read(endpoint, since=since, until=until)
        while batch := await asyncio.to_thread(lambda: tuple(islice(found, FACTS_AT_ONCE))):
            yield batch

    async def step(self) -> None:
        """Count the time of workers, and write everything."""
        now = self._clock()
        if now >= self._settled_at and now - self._until >= ACCRUE_S:
            await self._accrue(now)
        await self._flush(now)
        due = self._segments.due(now=now)
        if due:
            try:
                await asyncio.to_thread(self._segments.write, due)
            except OSError:
                # A full disk: facts are not worth holding requests or memory for.
                self._segments.dropped += sum(map(len, due.values()))
                raise

    async def _accrue(self, now: float) -> None:
        since, sums = self._until, dict[WorkersOf, WorkerUsage]()
        for endpoint in self._fleet.endpoints():
            self._projects[endpoint.id] = endpoint.project
        seen: set[EndpointId] = set()
        for worker in self._fleet.all_workers():
            seen.add(worker.endpoint)
            project = self._projects.get(worker.endpoint)
            if project is not None:
                self._count(worker, project, sums, since, now)
        for endpoint_id in [e for e in self._projects if e not in seen and self._fleet.endpoint(e) is None]:
            del self._projects[endpoint_id]
            self._named.pop(endpoint_id, None)
        if not sums:
            self._until = now
            return
        # Shielded: once asked for, it is written, and must not be asked for again.
        await asyncio.shield(self._store.write(lambda tx: rows.add_workers(tx, sums, until=now)))
        self._until = now

    def _count(
        self, worker: Worker, project: ProjectId, sums: dict[WorkersOf, WorkerUsage], since: float, now: float
    ) -> None:
        name, price = self._priced(worker)
        hardware = Hardware(worker.pool, name)
        for hour, usage in time_of(worker, since=since, until=now, price=price):
            of = WorkersOf(hour, project, worker.endpoint, hardware)
            sums[of] = sums.get(of, WorkerUsage()).plus(usage)
            self._name(worker.endpoint)

    async def _flush(self, now: float) -> None:
        pending, self._pending = self._pending, _Pending()
        if not (pending.requests or pending.marks or pending.names):
            return

        def write(tx: Connection) -> None:
            rows.add_requests(tx, pending.requests)
            rows.save_marks(tx, pending.marks, now=now)
            rows.name_endpoints(tx, pending.names)

        try:
            await asyncio.shield(self._store.write(write))
        except Exception:
            # None of it is written: it is counted together with what came meanwhile.
            for of, usage in pending.requests.items():
                self._add(of, usage)
            self._pending.marks = pending.marks | self._pending.marks
            self._pending.names = pending.names | self._pending.names
            raise

    async def close(self) -> None:
        """Write what is left."""
        now = self._clock()
        if now >= self._settled_at:
            await self._accrue(now)
        await self._flush(now)
        self._segments.write(self._segments.due(now=now, everything=True))

    async def trim(self, *, kept_s: float) -> None:
        """Forget what is too old: hours, marks of gateways that are gone, segments."""
        now = self._clock()
        before = hour_of(now - kept_s)
        marks_before = now - MARKS_KEPT_S
        incarnation = self._incarnation
        await self._store.write(
            lambda tx: rows.trim(tx, before_hour=before, marks_before=marks_before, incarnation=incarnation)
        )
        self._marks = await self._store.read(rows.marks) | {
            mark: usage for mark, usage in self._marks.items() if mark.incarnation == incarnation
        }
        self._tokens = {e: count for e, count in self._tokens.items() if self._fleet.endpoint(e) is not None}
        known = frozenset(endpoint.id for endpoint in self._fleet.endpoints())
        await asyncio.to_thread(self._segments.trim, now=now, known=known)

    # Reading

    async def report(
        self, principal: Principal, *, since: float, until: float, by: By, limit: int = GROUPS_MAX
    ) -> UsageReport:
        """What the principal's project used in the hours that these times lie in, of the endpoints that its key
        reaches. At most `limit` groups, those with the most requests and time. Raises `Invalid`.
        """
        first, end = hour_of(since), max(hour_of(since) + 1, -int(-until // HOUR_S))
        if until <= since:
            raise Invalid.at("/until", "until must be after since")
        if end - first > HOURS_MAX:
            raise Invalid.at("/since", f"at most {HOURS_MAX // 24} days at once")
        scope = Scope(project=principal.project, first=first, end=end, endpoints=principal.endpoints)
        found, total = await self._store.read(lambda tx: (_rows(tx, scope, by), _total(tx, scope)))
        return UsageReport(
            by=by,
            since=first * HOUR_S,
            until=end * HOUR_S,
            rows=_chosen(found, by, limit),
            total=total,
            omitted=max(0, len(found) - limit),
            facts_dropped=self.facts_dropped + self._segments.dropped,
        )


def _fact(entry: FactEntry, *, began_at: float) -> RequestFact:
    return RequestFact(
        at=round(began_at + entry.offset_s, 3),
        wait_s=entry.wait_s,
        service_s=entry.service_s,
        first_byte_s=entry.first_byte_s,
        prompt_tokens=entry.prompt_tokens,
        completion_tokens=entry.completion_tokens,
        status=entry.status,
        key=entry.key,
    )


def _rows(tx: Connection, scope: Scope, by: By) -> list[UsageRow]:
    requests = rows.requests_by(tx, scope, by)
    workers = {} if by is By.KEY else rows.workers_by(tx, scope, by)
    groups = sorted({*requests, *workers})
    names = rows.names(tx, by, groups) if by in (By.ENDPOINT, By.KEY) else {}
    return [
        _row(
            group,
            names.get(group, "no key" if by is By.KEY and not group else group),
            requests.get(group, RequestUsage()),
            None if by is By.KEY else workers.get(group, {}),
        )
        for group in groups
    ]


def _total(tx: Connection, scope: Scope) -> UsageRow:
    requests = rows.requests_by(tx, scope, By.PROJECT).get(str(scope.project), RequestUsage())
    return _row("", "total", requests, rows.workers_by(tx, scope, By.PROJECT).get(str(scope.project), {}))


def _row(group: str, name: str, requests: RequestUsage, workers: dict[Hardware, WorkerUsage] | None) -> UsageRow:
    if workers is None:
        return UsageRow(group=group, name=name, requests=requests, workers=None)
    total = WorkerUsage()
    for usage in workers.values():
        total = total.plus(usage)
    hardware = tuple(sorted(workers.items(), key=lambda item: (item[0].pool, item[0].hardware)))
    return UsageRow(group=group, name=name, requests=requests, workers=total, hardware=hardware)


def _chosen(found: list[UsageRow], by: By, limit: int) -> tuple[UsageRow, ...]:
    if by is By.HOUR:
        return tuple(sorted(found, key=lambda row: int(row.group))[-limit:])

    def size(row: UsageRow) -> tuple[float, ...]:
        return (-row.requests.requests, -(row.workers.started_s if row.workers else 0.0))

    return tuple(sorted(found, key=size)[:limit])

"""Usage as it is answered. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Self

from pydantic import BaseModel

from stoker.api.wire.base import iso
from stoker.domain.usage import HOUR_S, By, Hardware, RequestFact, UsageReport, UsageRow, WorkerUsage


class WorkerTimeOut(BaseModel):
    """Seconds of workers: `started_s` from start to end, `ready_s` of that after they were ready. `cost` is that of
    `priced_s` of them, null when there was no price.
    """

    started_s: float
    ready_s: float
    priced_s: float
    cost: float | None

    @classmethod
    def of(cls, usage: WorkerUsage) -> Self:
        return cls(
            started_s=round(usage.started_s, 3),
            ready_s=round(usage.ready_s, 3),
            priced_s=round(usage.priced_s, 3),
            cost=round(usage.cost, 6) if usage.priced_s > 0 else None,
        )


class HardwareTimeOut(WorkerTimeOut):
    """The same of one kind of hardware in one pool."""

    pool: str
    hardware: str

    @classmethod
    def of_hardware(cls, hardware: Hardware, usage: WorkerUsage) -> HardwareTimeOut:
        values = WorkerTimeOut.of(usage).model_dump()
        return cls(pool=hardware.pool, hardware=hardware.hardware, **values)


class UsageRowOut(BaseModel):
    """What one group used. Tokens are those of `metered` requests, the ones whose answer told them, null when none did.
    `workers` is null by key, since workers belong to no key.
    """

    group: str | None
    name: str
    requests: int
    errors: int
    metered: int
    prompt_tokens: int | None
    completion_tokens: int | None
    workers: WorkerTimeOut | None
    hardware: list[HardwareTimeOut]

    @classmethod
    def of(cls, row: UsageRow, by: By) -> Self:
        requests = row.requests
        hour = iso(int(row.group) * float(HOUR_S)) if by is By.HOUR and row.group else None
        return cls(
            group=hour or row.group or None,
            name=hour or row.name,
            requests=requests.requests,
            errors=requests.errors,
            metered=requests.metered,
            prompt_tokens=requests.prompt_tokens if requests.metered else None,
            completion_tokens=requests.completion_tokens if requests.metered else None,
            workers=None if row.workers is None else WorkerTimeOut.of(row.workers),
            hardware=[HardwareTimeOut.of_hardware(hardware, usage) for hardware, usage in row.hardware],
        )


class UsageOut(BaseModel):
    """Usage of whole hours, `since` included and `until` not. `omitted` groups are in the total only.
    `facts_dropped`: facts of single requests that could not be kept since the start; sums are complete all the same.
    """

    by: str
    since: str | None
    until: str | None
    items: list[UsageRowOut]
    total: UsageRowOut
    omitted: int
    facts_dropped: int

    @classmethod
    def of(cls, report: UsageReport) -> Self:
        return cls(
            by=report.by,
            since=iso(report.since),
            until=iso(report.until),
            items=[UsageRowOut.of(row, report.by) for row in report.rows],
            total=UsageRowOut.of(report.total, report.by),
            omitted=report.omitted,
            facts_dropped=report.facts_dropped,
        )


async def trace_lines(facts: AsyncIterator[Sequence[RequestFact]], begin: float) -> AsyncIterator[str]:
    """These facts as a trace whose time begins at `begin`."""
    yield "arrival_s,input_tokens,output_tokens,service_s\n"
    async for batch in facts:
        yield "".join(_trace_line(fact, begin) for fact in batch)


def _trace_line(fact: RequestFact, begin: float) -> str:
    service_s = "" if fact.service_s is None else f"{fact.service_s:.6g}"
    return f"{fact.at - begin:.3f},{fact.prompt_tokens or 0},{fact.completion_tokens or 0},{service_s}\n"

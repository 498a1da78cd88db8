"""Workers and their output as they are shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, Self

from stoker.dialects.yotta.wire.base import Wire, millis, type_of
from stoker.domain.endpoint import PoolSpec
from stoker.domain.gpus import find
from stoker.domain.hardware import DEFAULT_REGION
from stoker.domain.times import iso
from stoker.domain.views import LogEntry, WorkerView
from stoker.domain.worker import WorkerState

Status = Literal["INITIALIZE", "RUNNING", "TERMINATED", "FAILED"]
# What clients ask for beside those.
SYNONYMS = {"INITIALIZING": "INITIALIZE"}
_STATUS: dict[WorkerState, Status] = {
    WorkerState.PENDING: "INITIALIZE",
    WorkerState.STARTING: "INITIALIZE",
    WorkerState.COLD: "INITIALIZE",
    WorkerState.READY: "RUNNING",
    WorkerState.DRAINING: "RUNNING",
    WorkerState.STOPPING: "TERMINATED",
    WorkerState.STOPPED: "TERMINATED",
    WorkerState.FAILED: "FAILED",
}


class WorkerOut(Wire):
    """A worker. `uptime` is in seconds; `cost` is for an hour, 0 without a price."""

    worker_id: str
    id: str
    status: Status
    region: str
    gpu_type: str | None
    gpu_display_name: str | None
    gpu_count: int
    single_card_vram_in_gb: float | None
    single_card_vcpu: float | None
    single_card_ram_in_gb: float | None
    uptime: int
    cost: float
    created_at: int

    @classmethod
    def of(cls, view: WorkerView, pool: PoolSpec | None) -> Self:
        """`pool` is the one that it belongs to, unless that is gone."""
        worker, placement = view.worker, view.worker.placement
        hardware = None if pool is None else pool.hardware
        count = len(placement.gpus) if placement is not None else 0 if hardware is None else hardware.gpu_count
        family = next(iter(hardware.families), None) if hardware is not None and count else None
        known = None if family is None else find(family)
        vram = None if hardware is None else hardware.vram_gib_min
        began, cards = worker.ready_at or worker.started_at, max(1, count)
        until = worker.ended_at or view.now
        vcpu, ram = (None, None) if placement is None else (placement.vcpu, placement.ram_gib)
        return cls(
            worker_id=str(worker.number),
            id=str(worker.number),
            status=_STATUS[worker.state],
            region=view.region or (hardware.region if hardware is not None else None) or DEFAULT_REGION,
            gpu_type=None if family is None else type_of(family, vram or 0),
            gpu_display_name=family if known is None else f"{known.vendor} {known.label}",
            gpu_count=count,
            single_card_vram_in_gb=vram,
            single_card_vcpu=None if vcpu is None else vcpu / cards,
            single_card_ram_in_gb=None if ram is None else ram / cards,
            uptime=0 if began is None else max(0, int(until - began)),
            cost=0.0 if placement is None or placement.price is None else placement.price,
            created_at=millis(worker.created_at),
        )


class LogOut(Wire):
    """A line; `offset` is its place in the worker's output."""

    timestamp: str
    log: str
    offset: int

    @classmethod
    def of(cls, entry: LogEntry) -> Self:
        return cls(timestamp=iso(entry.at), log=entry.text, offset=offset_of(entry))


class LogsOut(Wire):
    """A page; the two tokens lead to the next one."""

    logs: list[LogOut]
    has_more: bool
    next_search_after_time: str | None
    next_search_after_offset: str | None


def offset_of(entry: LogEntry) -> int:
    """Microseconds: no two lines of a worker have the same."""
    return round(entry.at * 1_000_000)


def seconds_of(text: str) -> float | None:
    """A time as clients say it, in milliseconds since the epoch or ISO 8601; `None` for what is neither."""
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text) / 1000
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None

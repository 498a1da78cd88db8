"""Workers of an endpoint, and their output."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Query

from stoker.dialects.yotta.caller import Caller, Context, KeyedRoute, number_of
from stoker.dialects.yotta.errors import NO_RECORD, Refused
from stoker.dialects.yotta.routes.endpoints import PREFIX, StatusList, asked_for
from stoker.dialects.yotta.wire.base import Envelope, told
from stoker.dialects.yotta.wire.workers import (
    SYNONYMS,
    LogOut,
    LogsOut,
    Status,
    WorkerOut,
    offset_of,
    seconds_of,
)
from stoker.domain.endpoint import Endpoint
from stoker.domain.errors import Invalid
from stoker.domain.times import iso
from stoker.domain.views import LogEntry
from stoker.domain.worker import Worker

router = APIRouter(route_class=KeyedRoute, tags=["workers"])

# Of a worker's output, the last lines that are kept within reach.
LINES_MAX = 10_000
Time = Annotated[str | None, Query(max_length=64)]


@router.get(PREFIX + "/{id}/workers", operation_id="list-workers")
async def list_workers(id: str, context: Caller, status_list: StatusList = None) -> Envelope[list[WorkerOut]]:
    """Those that are there, newest first; those that are gone when their status is asked for."""
    endpoint = await context.endpoint(id)
    wanted = {SYNONYMS.get(name, name) for name in asked_for(status_list, (*get_args(Status), *SYNONYMS))}
    views = await context.services.views.workers(endpoint)
    shown = [
        WorkerOut.of(view, endpoint.spec.pool(view.worker.pool)) for view in views if wanted or not view.worker.gone
    ]
    return told("Success", [each for each in shown if not wanted or each.status in wanted])


async def _worker(context: Context, endpoint: Endpoint, id: str) -> Worker:
    number = number_of(id)
    for view in await context.services.views.workers(endpoint):
        if view.worker.number == number:
            return view.worker
    raise Refused(NO_RECORD, f"no worker {id[:64]!r}")


@router.get(PREFIX + "/{id}/workers/{worker_id}/logs", operation_id="get-worker-logs")
async def get_worker_logs(
    id: str,
    worker_id: str,
    context: Caller,
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=1_000)] = 100,
    keyword: Annotated[str, Query(max_length=1_024)] = "",
    start_time: Annotated[Time, Query(alias="startTime")] = None,
    end_time: Annotated[Time, Query(alias="endTime")] = None,
    search_after_time: Annotated[Time, Query(alias="searchAfterTime")] = None,
    search_after_offset: Annotated[Time, Query(alias="searchAfterOffset")] = None,
    direction: Literal["Forward", "Backward"] = "Forward",
) -> Envelope[LogsOut]:
    """A page of what the worker has put out: from the oldest line on, or from the newest one back."""
    worker = await _worker(context, await context.endpoint(id), worker_id)
    low, high = _time(start_time, "startTime"), _time(end_time, "endTime")
    after = _place(search_after_time, search_after_offset)
    entries = context.services.logs.of_worker(worker, tail=LINES_MAX, follow=False, since=low)
    async with aclosing(entries) as lines:
        found = [entry async for entry in lines if (high is None or entry.at <= high) and keyword in entry.text]
    if direction == "Backward":
        found.reverse()
    if after is not None:
        found = [each for each in found if _is_beyond(each, after, direction)]
    return told("Success", _page(found, page_size))


def _page(found: Sequence[LogEntry], size: int) -> LogsOut:
    page, more = found[:size], len(found) > size
    last = page[-1] if page else None
    return LogsOut(
        logs=[LogOut.of(each) for each in page],
        has_more=more,
        next_search_after_time=None if last is None else iso(last.at),
        next_search_after_offset=None if last is None else str(offset_of(last)),
    )


def _is_beyond(entry: LogEntry, after: int, direction: str) -> bool:
    offset = offset_of(entry)
    return offset > after if direction == "Forward" else offset < after


def _time(text: str | None, name: str) -> float | None:
    if not text:
        return None
    at = seconds_of(text)
    if at is None:
        raise Invalid.at(f"/{name}", "a time is in milliseconds since the epoch, or ISO 8601")
    return at


def _place(time: str | None, offset: str | None) -> int | None:
    """Where to go on; the offset is the more exact one."""
    if offset:
        if not (offset.isascii() and offset.isdigit()):
            raise Invalid.at("/searchAfterOffset", "an offset is a number")
        return int(offset)
    at = _time(time, "searchAfterTime")
    return None if at is None else round(at * 1_000_000)

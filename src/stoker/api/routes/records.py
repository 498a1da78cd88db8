"""What happens to endpoints: workers, logs, events, decisions, operations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query
from starlette.responses import StreamingResponse

from stoker.api import sse
from stoker.api.once import OnceRoute
from stoker.api.routes.context import PAGE_ITEMS_MAX, Caller, Context, Cursor, Limit, after_of, cursor_of
from stoker.api.wire.base import Page, iso
from stoker.api.wire.records import (
    DecisionOut,
    EventOut,
    ExplanationOut,
    FeedDecisionOut,
    FeedEventOut,
    OperationOut,
    WorkerOut,
)
from stoker.api.wire.times import TEXT_CHARS_MAX, moment
from stoker.domain.operation import OperationId
from stoker.domain.views import Kind, LogEntry, News
from stoker.domain.worker import WorkerId

router = APIRouter(route_class=OnceRoute, tags=["records"])

TAIL_LINES_MAX = 10_000
WAIT_S_MAX = 60.0
# What the store can hold as a number.
NUMBER_MAX = 2**63 - 1
TAIL_LINES = 100
Tail = Annotated[int | None, Query(ge=0, le=TAIL_LINES_MAX)]
Since = Annotated[str | None, Query(max_length=TEXT_CHARS_MAX)]
After = Annotated[int | None, Query(ge=0, le=NUMBER_MAX)]
Kinds = Annotated[list[Kind] | None, Query(description="default: both")]
Newest = Annotated[int, Query(ge=0, le=PAGE_ITEMS_MAX, description="begin with the last so many of each")]
Last = Annotated[str | None, Header(alias="Last-Event-ID", description="go on after this event")]


@router.get("/endpoints/{ref}/workers")
async def list_endpoint_workers(ref: str, context: Caller) -> Page[WorkerOut]:
    """The endpoint's workers, newest first; ended ones as long as they are remembered."""
    endpoint = await context.endpoint(ref)
    views = await context.services.views.workers(endpoint)
    return Page(items=[WorkerOut.of(view) for view in views])


@router.get("/workers")
async def list_workers(context: Caller) -> Page[WorkerOut]:
    """All workers of the project that are not gone."""
    views = context.services.views.live_workers(context.principal)
    return Page(items=[WorkerOut.of(view) for view in views])


@router.get("/workers/{worker}")
async def get_worker(worker: str, context: Caller) -> WorkerOut:
    """A worker by id."""
    return WorkerOut.of(await context.services.views.worker(WorkerId(worker), context.principal))


@router.get("/endpoints/{ref}/logs", response_class=StreamingResponse)
async def endpoint_logs(
    ref: str, context: Caller, tail: Tail = None, since: Since = None, follow: bool = False
) -> StreamingResponse:
    """Output of the endpoint's workers, one JSON object a line: at, worker, stream, text. `since` is a moment in RFC
    3339 or how long ago (10m); `tail` is 100 without it, else as much as there may be.
    """
    endpoint = await context.endpoint(ref)
    begin, count = _span(context, since, tail)
    return _lines(context.services.logs.of_endpoint(endpoint.id, tail=count, since=begin, follow=follow))


@router.get("/workers/{worker}/logs", response_class=StreamingResponse)
async def worker_logs(
    worker: str, context: Caller, tail: Tail = None, since: Since = None, follow: bool = False
) -> StreamingResponse:
    """Output of one worker, as that of an endpoint."""
    view = await context.services.views.worker(WorkerId(worker), context.principal)
    begin, count = _span(context, since, tail)
    return _lines(context.services.logs.of_worker(view.worker, tail=count, since=begin, follow=follow))


def _span(context: Context, since: str | None, tail: int | None) -> tuple[float | None, int]:
    if since is None:
        return None, TAIL_LINES if tail is None else tail
    begin = moment("/since", since, now=context.services.clock())
    return begin, TAIL_LINES_MAX if tail is None else tail


def _lines(entries: AsyncIterator[LogEntry]) -> StreamingResponse:
    async def encoded() -> AsyncIterator[bytes]:
        async for entry in entries:
            line = {"at": iso(entry.at), "worker": entry.worker, "stream": entry.stream, "text": entry.text}
            yield msgspec.json.encode(line) + b"\n"

    return StreamingResponse(encoded(), media_type="application/x-ndjson")


@router.get("/endpoints/{ref}/events")
async def list_events(ref: str, context: Caller, after: After = None, limit: Limit = 100) -> Page[EventOut]:
    """The endpoint's events, oldest first: those after a number, or the newest ones."""
    endpoint = await context.endpoint(ref)
    events = await context.services.views.events(endpoint.id, after=after, limit=limit)
    return Page(items=[EventOut.of(event) for event in events])


@router.get("/endpoints/{ref}/decisions")
async def list_decisions(ref: str, context: Caller, limit: Limit = 100, cursor: Cursor = None) -> Page[DecisionOut]:
    """The endpoint's scaling decisions, newest first: each with its reason and its inputs."""
    endpoint = await context.endpoint(ref)
    before = None if cursor is None else after_of(cursor)
    found = await context.services.views.decisions(endpoint.id, limit=limit + 1, before=before)
    more = cursor_of(found[limit - 1].number) if len(found) > limit else None
    return Page(items=[DecisionOut.of(decision) for decision in found[:limit]], next=more)


@router.get("/endpoints/{ref}/feed", response_class=StreamingResponse)
async def follow_endpoint(
    ref: str, context: Caller, of: Kinds = None, tail: Newest = 0, last: Last = None
) -> StreamingResponse:
    """The endpoint's events (`stoker.event`) and decisions (`stoker.decision`) as server-sent events, as they come. It
    ends with the endpoint, and after ten minutes: go on with `Last-Event-ID`.
    """
    endpoint = await context.endpoint(ref)
    return await _followed(context.services.feed.follow(endpoint.id, after=last, tail=tail, of=of or tuple(Kind)))


@router.get("/feed", response_class=StreamingResponse)
async def follow_project(context: Caller, of: Kinds = None, tail: Newest = 0, last: Last = None) -> StreamingResponse:
    """The same of all endpoints of the project that the caller may see, those to come included; each has `endpoint`,
    its id, and `endpoint_name`. `tail` looks back as far as the newest 5,000 of the installation. It ends after ten
    minutes: go on with `Last-Event-ID`.
    """
    feed = context.services.feed
    return await _followed(feed.follow_all(context.principal, after=last, tail=tail, of=of or tuple(Kind)))


async def _followed(news: AsyncGenerator[News]) -> StreamingResponse:
    # Whatever is wrong is said before the answer begins.
    first = await anext(news)
    return sse.stream(_news(first, news))


async def _news(first: News, others: AsyncGenerator[News]) -> AsyncIterator[bytes]:
    yield sse.place(first.id)
    async with aclosing(others):
        async for one in others:
            yield _encoded(one)


def _encoded(one: News) -> bytes:
    whose = None if one.endpoint is None or one.name is None else (one.endpoint, one.name)
    if one.event is not None:
        event = EventOut.of(one.event) if whose is None else FeedEventOut.told(one.event, whose[1])
        return sse.event(one.id, "stoker.event", event.model_dump_json())
    if one.decision is not None:
        decision = DecisionOut.of(one.decision) if whose is None else FeedDecisionOut.told(one.decision, *whose)
        return sse.event(one.id, "stoker.decision", decision.model_dump_json())
    return sse.BEAT


@router.get("/endpoints/{ref}/explanation")
async def explain(ref: str, context: Caller, at: Since = None) -> ExplanationOut:
    """Why the endpoint has as many workers as it has: the decision that held `at` a moment in RFC 3339 or so long ago
    (10m); without one the last decision, what would be decided now, and from which numbers.
    """
    endpoint = await context.endpoint(ref)
    when = None if at is None else moment("/at", at, now=context.services.clock())
    return ExplanationOut.of(await context.services.views.explanation(endpoint, at=when))


@router.get("/operations/{operation}")
async def get_operation(
    operation: str, context: Caller, wait_s: Annotated[float, Query(ge=0, le=WAIT_S_MAX)] = 0.0
) -> OperationOut:
    """An operation; with `wait_s` as soon as it has ended, but at the latest after so many seconds."""
    found = await context.services.views.operation(OperationId(operation), context.principal, wait_s=wait_s)
    return OperationOut.of(found)

"""What was used, what it cost, and what workers do now."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from stoker.api.once import OnceRoute
from stoker.api.routes.context import Caller
from stoker.api.wire.base import Page
from stoker.api.wire.learned import LearnedListOut
from stoker.api.wire.measurements import WorkerMeasuredOut
from stoker.api.wire.times import TEXT_CHARS_MAX, moment
from stoker.api.wire.usage import UsageOut, trace_lines
from stoker.domain.usage import By
from stoker.domain.worker import WorkerState

router = APIRouter(route_class=OnceRoute, tags=["usage"])

GROUPS_MAX = 10_000
Time = Annotated[str | None, Query(max_length=TEXT_CHARS_MAX)]


@router.get("/usage")
async def get_usage(
    context: Caller,
    since: Time = "24h",
    until: Time = None,
    by: By = By.ENDPOINT,
    limit: Annotated[int, Query(ge=1, le=GROUPS_MAX)] = 1_000,
) -> UsageOut:
    """Requests, tokens, time of workers and cost of the project, in whole hours: by endpoint, key, project or hour.

    `since` and `until` are moments in RFC 3339 or how long ago (10m, 24h, 7d).
    """
    now = context.services.clock()
    report = await context.services.usage.report(
        context.principal,
        since=moment("/since", since or "24h", now=now),
        until=now if until is None else moment("/until", until, now=now),
        by=by,
        limit=limit,
    )
    return UsageOut.of(report)


@router.get("/endpoints/{ref}/metrics")
async def get_metrics(ref: str, context: Caller) -> Page[WorkerMeasuredOut]:
    """What the endpoint's ready workers do: their engines' metrics and what they take of their machines, with ages."""
    endpoint = await context.endpoint(ref)
    views = context.services.views.live_workers(context.principal)
    ready = [v for v in views if v.worker.endpoint == endpoint.id and v.worker.state is WorkerState.READY]
    return Page(items=[WorkerMeasuredOut.of_worker(view) for view in ready])


@router.get("/endpoints/{ref}/trace", response_class=StreamingResponse)
async def get_trace(ref: str, context: Caller, since: Time = "24h", until: Time = None) -> StreamingResponse:
    """The requests that came to the endpoint, as `stoker simulate` reads them: CSV of `arrival_s` since the beginning,
    `input_tokens`, `output_tokens` (0 where none were told) and `service_s` (empty: it was not served). Those of the
    last seconds may not be there yet. `since` and `until` are moments in RFC 3339 or how long ago (10m, 24h, 7d).
    """
    endpoint = await context.endpoint(ref)
    now = context.services.clock()
    begin = moment("/since", since or "24h", now=now)
    end = now if until is None else moment("/until", until, now=now)
    return StreamingResponse(
        trace_lines(context.services.usage.facts(endpoint.id, since=begin, until=end), begin), media_type="text/csv"
    )


@router.get("/endpoints/{ref}/learned")
async def get_learned(ref: str, context: Caller) -> LearnedListOut:
    """How long starts of the endpoint take and what one of its workers sustains, by host, as learned so far."""
    endpoint = await context.endpoint(ref)
    learning = context.services.learning
    return LearnedListOut.of(learning.of_endpoint(endpoint), learning.expected_start_s(endpoint))

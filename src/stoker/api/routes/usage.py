"""What was used, and what it cost."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from stoker.api.once import OnceRoute
from stoker.api.routes.context import Reader
from stoker.api.wire.times import TEXT_CHARS_MAX, moment
from stoker.api.wire.usage import UsageOut
from stoker.domain.usage import By

router = APIRouter(route_class=OnceRoute, tags=["usage"])

GROUPS_MAX = 10_000
Time = Annotated[str | None, Query(max_length=TEXT_CHARS_MAX)]


@router.get("/usage")
async def get_usage(
    context: Reader,
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

"""What workers that ask for jobs call: `runpod` and `novita-gpus`, unmodified.

A worker shows the token from its environment. What it says of a job that it has no longer changes nothing, and is
answered like all else: it has done what it could.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stoker.dialects.novita.wire.pull import jobs_of, line_of, said
from stoker.domain.errors import Invalid, Unauthenticated
from stoker.domain.pulling import JobReport
from stoker.domain.worker import Worker
from stoker.web import bearer_or_api_key, read_body, services_of

T = TypeVar("T")
# Workers ask again at once, whatever the answer was.
REFUSAL_S = 1.0
IDS_MAX = 10_000

router = APIRouter()


async def _worker(request: Request, endpoint: str, worker: str) -> Worker:
    try:
        return services_of(request).pulls.worker(endpoint, worker, bearer_or_api_key(request))
    except Unauthenticated:
        await asyncio.sleep(REFUSAL_S)
        raise


Caller = Annotated[Worker, Depends(_worker)]


async def _unless_gone(request: Request, work: Awaitable[T]) -> T | None:
    """What `work` comes to; `None`, and the work is cancelled, when the caller hangs up before."""
    working = asyncio.ensure_future(work)
    gone = asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait([working, gone], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _taken(request: Request, caller: Worker, wanted: int, *, batch: bool) -> Response:
    jobs = await _unless_gone(request, services_of(request).pulls.take(caller, wanted))
    if not jobs:
        return Response(status_code=204)
    return Response(jobs_of(jobs, batch=batch), media_type="application/json")


@router.get("/{endpoint}/job-take/{worker}")
async def take_job(request: Request, caller: Caller) -> Response:
    """A job, as soon as there is one; 204 after a while without."""
    return await _taken(request, caller, 1, batch=False)


@router.get("/{endpoint}/job-take-batch/{worker}")
async def take_jobs(request: Request, caller: Caller, batch_size: Annotated[int, Query(ge=1)] = 1) -> Response:
    """Up to so many jobs, in a list."""
    return await _taken(request, caller, batch_size, batch=True)


@router.get("/{endpoint}/job-stop/{worker}")
async def stop_jobs(request: Request, caller: Caller) -> Response:
    """The jobs that this worker is to give up, as soon as there are any."""
    ids = await _unless_gone(request, services_of(request).pulls.stops(caller))
    return JSONResponse({"jobsToStop": list(ids)}) if ids else Response(status_code=204)


@router.get("/{endpoint}/ping/{worker}")
async def ping(request: Request, caller: Caller, job_id: str = "") -> Response:
    """The worker is there, and has these jobs."""
    await services_of(request).pulls.ping(caller, job_id.split(",")[:IDS_MAX])
    return JSONResponse({})


@router.post("/{endpoint}/job-done/{worker}/{job}")
async def finish_job(request: Request, caller: Caller, job: str, isStream: str = "false") -> Response:
    """What became of a job, or how far it is."""
    pulls = services_of(request).pulls
    try:
        body = await read_body(request, bytes_max=pulls.output_bytes_max)
        report, ended = said(body, streamed=isStream == "true")
    except (HTTPException, Invalid) as exc:
        # The worker would say the same again, and then forget it.
        text = exc.detail if isinstance(exc, HTTPException) else str(exc)
        report, ended = JobReport(error=text), True
    if ended:
        recorded = await pulls.done(caller, job, report)
    else:
        recorded = await pulls.stream(caller, job, None)
    return JSONResponse({"recorded": recorded})


@router.post("/{endpoint}/job-stream/{worker}/{job}")
async def stream_job(request: Request, caller: Caller, job: str) -> Response:
    """A piece of a job's output."""
    pulls = services_of(request).pulls
    report, _ = said(await read_body(request, bytes_max=pulls.output_bytes_max))
    return JSONResponse({"recorded": await pulls.stream(caller, job, line_of(report.output or b"null"))})

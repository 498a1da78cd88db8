"""The gateway of jobs, one for all endpoints that take tasks: run, status, cancel, health, purge, stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from stoker.dialects.novita.caller import Caller, Context, KeyedRoute
from stoker.dialects.novita.errors import Refused
from stoker.dialects.novita.names import reference_of
from stoker.dialects.novita.webhook import status_of
from stoker.dialects.novita.wire.jobs import (
    LINES,
    HealthOut,
    JobMadeOut,
    JobOut,
    JobsOut,
    PieceOut,
    PurgedOut,
    RunIn,
    StatsOut,
    StreamOut,
    WorkersOut,
    draft_of,
    told,
)
from stoker.domain.authorisation import Action
from stoker.domain.errors import Conflict, NotFound
from stoker.domain.task import Task
from stoker.domain.views import WorkerView
from stoker.domain.worker import WorkerState
from stoker.web import Event

T = TypeVar("T")
router = APIRouter(route_class=KeyedRoute, tags=["jobs"])

# Clients that wait on one connection ask on when this is over.
SYNC_S = 50.0
# What a status can have in it; all of a longer output is found at its own address.
OUTPUT_BYTES_MAX = 4 * 1024 * 1024
# How long a stream is listened to at a time, and how much of it is told then.
LISTEN_S = 0.5
PIECES_MAX = 1_000
# How far a job's stream was told: by its number and the number of the look.
TOLD = "novita stream"
BODY = {"requestBody": {"content": {"application/json": {"schema": RunIn.model_json_schema()}}, "required": True}}


async def _there(work: Awaitable[T]) -> T:
    """What `work` comes to. Raises `Refused` for what is not there, which is 404 at this gateway."""
    try:
        return await work
    except NotFound as exc:
        raise Refused("RESOURCE_NOT_FOUND", str(exc), status=404) from exc


async def _shown(context: Context, name: str, task: Task) -> Response:
    result: bytes | None = None
    note = ""
    if task.state.final and task.result_type is not None:
        with contextlib.suppress(NotFound):
            task, pieces = await context.services.tasks.result(context.principal, reference_of(name), task.id)
            size = 0 if task.result is None else task.result.size
            if size <= OUTPUT_BYTES_MAX:
                result = b"".join([piece async for piece in pieces])
            else:
                where = f"{context.services.url}/api/v1/endpoints/{task.endpoint}/tasks/{task.id}/result"
                note = f"the output has {size} bytes, which are more than {OUTPUT_BYTES_MAX}: it is at {where}"
    return Response(told(task, result, note), media_type="application/json")


async def _submitted(request: Request, context: Context, name: str) -> Task:
    draft = draft_of(await request.body())
    made = await _there(context.services.tasks.submit(context.principal, reference_of(name), draft))
    return made.task


@router.post("/{name}/run", operation_id="run", openapi_extra=BODY)
async def run(request: Request, name: str, context: Caller) -> JobMadeOut:
    """A new job. It is on disk when this is answered."""
    task = await _submitted(request, context, name)
    return JobMadeOut(id=task.id, status=status_of(task))


@router.post("/{name}/runsync", operation_id="run-sync", openapi_extra=BODY, response_model=JobOut)
async def run_sync(request: Request, name: str, context: Caller) -> Response:
    """A new job, as it is when it has ended, or after a while."""
    task = await _submitted(request, context, name)
    tasks = context.services.tasks
    task = await _there(tasks.wait(context.principal, reference_of(name), task.id, timeout_s=SYNC_S))
    return await _shown(context, name, task)


async def _task(context: Context, name: str, id: str) -> Task:
    return await _there(context.services.tasks.get(context.principal, reference_of(name), id))


@router.get("/{name}/status/{id}", operation_id="get-status", response_model=JobOut)
async def get_status(name: str, id: str, context: Caller) -> Response:
    """A job as it stands."""
    return await _shown(context, name, await _task(context, name, id))


@router.get("/{name}/stream/{id}", operation_id="get-stream")
async def get_stream(name: str, id: str, context: Caller) -> StreamOut:
    """What a job has put out since the last time that somebody asked so."""
    services, reference = context.services, reference_of(name)
    task = await _task(context, name, id)
    if task.state.final and task.result_type != LINES:
        return StreamOut(status=status_of(task), stream=[])
    look, after = await _place(context, task)
    events = await _there(services.tasks.events(context.principal, reference, id, after=after))
    found: list[Event] = []
    if events is not None:
        async with contextlib.aclosing(events):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LISTEN_S):
                    async for event in events:
                        found += [] if event is None else [event]
                        if len(found) >= PIECES_MAX:
                            break
    if found and found[-1].id != after:
        # Somebody else who looks at this very moment is told the same.
        with contextlib.suppress(Conflict):
            await services.once.keep(context.principal.project, TOLD, f"{task.number}/{look}", found[-1].id)
    pieces = [PieceOut(output=_json(event.piece.data)) for event in found if event.piece is not None]
    return StreamOut(status=status_of(await _task(context, name, id)), stream=pieces)


async def _place(context: Context, task: Task) -> tuple[int, str | None]:
    """How often something was told of that job's stream, and where the last telling ended."""
    once, project = context.services.once, context.principal.project

    async def told_at(look: int) -> str | None:
        return await once.kept(project, TOLD, f"{task.number}/{look}")

    count = await count_of(told_at)
    return count, await told_at(count - 1) if count else None


async def count_of(told_at: Callable[[int], Awaitable[object | None]]) -> int:
    """The first number from 0 on for which there is nothing; asks few times."""
    low, high = 0, 1
    while await told_at(high - 1) is not None:
        low, high = high, 2 * high
    # There is something before `low`, and nothing at `high - 1`.
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if await told_at(middle - 1) is not None else (low, middle)
    return low


def _json(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


async def _cancelled(name: str, id: str, context: Context) -> JobMadeOut:
    task = await _there(context.services.tasks.cancel(context.principal, reference_of(name), id))
    return JobMadeOut(id=task.id, status=status_of(task) if task.state.final else "CANCELLED")


@router.post("/{name}/cancel/{id}", operation_id="cancel")
async def cancel(name: str, id: str, context: Caller) -> JobMadeOut:
    """End a job: at once while it waits, else as soon as its worker has been told. One that has ended stays so."""
    return await _cancelled(name, id, context)


@router.get("/{name}/cancel/{id}", operation_id="cancel-by-get")
async def cancel_by_get(name: str, id: str, context: Caller) -> JobMadeOut:
    """The same, as an older guide has it."""
    return await _cancelled(name, id, context)


async def _workers(context: Context, name: str) -> list[WorkerView]:
    views = context.services.views
    endpoint = await _there(views.find(reference_of(name), context.principal, Action.TASK_READ))
    return [each for each in await views.workers(endpoint) if not each.worker.gone]


@router.get("/{name}/health", operation_id="get-health")
async def get_health(name: str, context: Caller) -> HealthOut:
    """How many jobs and workers there are, by state."""
    queue = await _there(context.services.tasks.queue(context.principal, reference_of(name)))
    workers = await _workers(context, name)
    ready = [each for each in workers if each.worker.state is WorkerState.READY]
    starting = [each for each in workers if each.worker.state in (WorkerState.PENDING, WorkerState.STARTING)]
    return HealthOut(
        jobs=JobsOut(
            inQueue=queue.queued,
            inProgress=queue.running,
            completed=queue.counts.get("succeeded", 0),
            failed=queue.counts.get("failed", 0) + queue.counts.get("expired", 0),
        ),
        workers=WorkersOut(
            idle=sum(1 for each in ready if not each.in_flight),
            initializing=sum(1 for each in starting if not each.worker.reason),
            ready=len(ready),
            running=sum(1 for each in ready if each.in_flight),
            throttled=sum(1 for each in starting if each.worker.reason),
            unhealthy=sum(1 for each in ready if each.worker.unready),
        ),
    )


@router.get("/{name}/stats", operation_id="get-stats")
async def get_stats(name: str, context: Caller) -> StatsOut:
    """The same in fewer words, as an older guide has it."""
    health = await get_health(name, context)
    return StatsOut(
        busy_workers=health.workers.running,
        endpoint=name,
        in_progress=health.jobs.inProgress,
        pending=health.jobs.inQueue,
        total_workers=health.workers.ready + health.workers.initializing + health.workers.throttled,
    )


@router.post("/{name}/purge-queue", operation_id="purge-queue")
async def purge_queue(name: str, context: Caller) -> PurgedOut:
    """Cancel all jobs that wait."""
    removed = await _there(context.services.tasks.purge(context.principal, reference_of(name)))
    return PurgedOut(removed=removed, status="completed")

"""Tasks of endpoints that are queues: submit, get, list and count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from stoker.dialects.yotta.caller import Caller, Context, KeyedRoute
from stoker.dialects.yotta.errors import (
    NO_SERVERLESS,
    NO_TASK,
    NOT_A_TASK,
    SUBMIT,
    UNAVAILABLE,
    Refused,
)
from stoker.dialects.yotta.routes.endpoints import PREFIX
from stoker.dialects.yotta.showing import status_of, webhook_of
from stoker.dialects.yotta.wire import tasks as wire
from stoker.dialects.yotta.wire.base import Envelope, told
from stoker.dialects.yotta.wire.tasks import (
    STATES,
    CountOut,
    SubmittedOut,
    TaskDetailOut,
    TaskIn,
    TaskOut,
    TasksOut,
)
from stoker.domain.authorisation import Action
from stoker.domain.endpoint import Endpoint, Phase
from stoker.domain.errors import Invalid, NotFound
from stoker.domain.queueing import Mode
from stoker.domain.task import Task, TaskState

router = APIRouter(route_class=KeyedRoute, tags=["tasks"])

PAGE_ITEMS_MAX = 100
# More than any list is long.
PAGES_MAX = 2**31


async def _queue(context: Context, id: str) -> Endpoint:
    """The endpoint if it is a queue. Raises `Refused`."""
    endpoint = await context.endpoint(id, Action.TASK_READ)
    if endpoint.spec.mode is Mode.HTTP:
        raise Refused(NO_SERVERLESS)
    return endpoint


@router.post(PREFIX + "/{id}/tasks", operation_id=SUBMIT)
async def submit_task(id: str, body: TaskIn, context: Caller) -> Envelope[SubmittedOut]:
    """Submit a task; it is on disk before this answers. The same id again is the same task."""
    endpoint = await context.endpoint(id, Action.TASK_SUBMIT)
    if endpoint.spec.mode is Mode.HTTP:
        raise Refused(NOT_A_TASK, "tasks are for endpoints whose serviceMode is QUEUE")
    if endpoint.phase is Phase.DELETING:
        raise Refused(NO_SERVERLESS)
    if status_of(context.services.views.endpoint(endpoint)) in ("STOPPING", "STOPPED", "FAILED"):
        raise Refused(UNAVAILABLE)
    draft = body.to_draft(endpoint.spec.launch, webhook_of(endpoint.spec))
    submitted = await context.services.tasks.submit(context.principal, endpoint.id, draft)
    return told("Task submitted successfully", SubmittedOut(task_id=submitted.task.id))


@router.get(PREFIX + "/{id}/tasks/count", operation_id="count-tasks")
async def count_tasks(id: str, context: Caller) -> Envelope[CountOut]:
    """How many tasks there are in which state."""
    endpoint = await _queue(context, id)
    counts = (await context.services.tasks.queue(context.principal, endpoint.id)).counts

    def sum_of(*names: str) -> int:
        return sum(counts.get(name, 0) for name in names)

    failed = sum_of(*STATES["FAILED"])
    return told(
        "Success",
        CountOut(
            processing=sum_of("queued", "running"),
            total=sum(counts.values()),
            delivered=sum_of("running"),
            success=sum_of("succeeded"),
            failed=failed,
        ),
    )


@router.get(PREFIX + "/{id}/tasks", operation_id="list-tasks")
async def list_tasks(
    id: str,
    context: Caller,
    status: Annotated[str | None, Query(max_length=16)] = None,
    page_number: Annotated[int, Query(alias="pageNumber", ge=1, le=PAGES_MAX)] = 1,
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=PAGE_ITEMS_MAX)] = 10,
) -> Envelope[TasksOut]:
    """A page of them, the newest first."""
    endpoint = await _queue(context, id)
    found, total = await context.services.tasks.newest(
        context.principal,
        endpoint.id,
        states=_states(status),
        skip=(page_number - 1) * page_size,
        limit=page_size,
    )
    items = await _shown(context, endpoint, found)
    return told("Success", TasksOut.of(items, page=page_number, size=page_size, total=total))


def _states(status: str | None) -> tuple[TaskState, ...]:
    if not status:
        return ()
    for name, states in STATES.items():
        if name == status.upper():
            return states
    raise Invalid.at("/status", f"no status {status!r}; there are {', '.join(STATES)}")


async def _shown(context: Context, endpoint: Endpoint, tasks: Sequence[Task]) -> list[TaskOut]:
    deliveries = await context.services.tasks.told(tasks)
    views = await context.services.views.workers(endpoint) if any(task.worker for task in tasks) else ()
    workers = {view.worker.id: view.worker for view in views}
    return [
        TaskOut.of(task, endpoint, next((w for id, w in workers.items() if id == task.worker), None), delivery)
        for task in tasks
        for delivery in (deliveries.get(task.number),)
    ]


@router.get(PREFIX + "/{id}/tasks/{task_id}", operation_id="get-task", response_model=Envelope[TaskDetailOut])
async def get_task(id: str, task_id: str, context: Caller) -> Response:
    """A task with what was submitted and what its worker answered."""
    endpoint = await _queue(context, id)
    try:
        task = await context.services.tasks.get(context.principal, endpoint.id, task_id)
        input, result = await context.services.tasks.bodies(task)
    except NotFound:
        raise Refused(NO_TASK) from None
    [shown] = await _shown(context, endpoint, [task])
    return Response(wire.detail("Task found", shown, task, input, result), media_type="application/json")

"""Tasks: operations of deployments. One that makes or changes a deployment is finished as soon as its containers are
there, whatever becomes of them: that is the deployment's status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from stoker.dialects.gcore.caller import Anywhere, Caller, Context, KeyedRoute, Limit, Offset
from stoker.dialects.gcore.wire.base import Page, bare_moment, seconds
from stoker.dialects.gcore.wire.tasks import Created, State, TaskOut
from stoker.domain.endpoint import Endpoint
from stoker.domain.errors import NotFound
from stoker.domain.operation import Operation, OperationId, OperationKind, OperationState

router = APIRouter(route_class=KeyedRoute, tags=["tasks"])

# What is known of a task beside its operation, and that somebody has seen it.
TASK = "gcore task"
SEEN = "gcore task seen"
TASKS_MAX = 1_000
KINDS = {
    OperationKind.CREATE: "create_inference_instance",
    OperationKind.DELETE: "delete_inference_instance",
}
UPDATE = "update_inference_instance"


async def keep(context: Context, operation: Operation, name: str, data: Any, kind: str | None = None) -> None:
    """Remember what a task was about: its deployment may be gone when somebody asks. `kind` is what it is called, if
    not as operations of its kind are.
    """
    about = msgspec.json.encode({"name": name, "data": data, "kind": kind}).decode()
    await context.services.once.keep(context.principal.project, TASK, operation.id, about)


async def shown(context: Context, operation: Operation) -> TaskOut:
    """A task as it stands."""
    once, project = context.services.once, context.principal.project
    kept = await once.kept(project, TASK, operation.id)
    about: dict[str, Any] = {} if kept is None else msgspec.json.decode(kept)
    seen = await once.kept(project, SEEN, operation.id)
    endpoint = await _endpoint(context, operation)
    state = _state(context, operation, endpoint)
    name = about.get("name") or (None if endpoint is None else endpoint.spec.name)
    made = operation.kind is OperationKind.CREATE and state == "FINISHED" and name is not None
    ended = operation.ended_at if operation.ended_at is not None else operation.created_at
    return TaskOut(
        id=operation.id,
        created_on=bare_moment(operation.created_at),
        updated_on=bare_moment(ended),
        finished_on=bare_moment(ended) if state in ("FINISHED", "ERROR") else None,
        state=state,
        task_type=about.get("kind") or KINDS.get(operation.kind, UPDATE),
        user_id=1,
        project_id=project,
        acknowledged_at=None if seen is None else seen,
        acknowledged_by=None if seen is None else 1,
        created_resources=Created(inference_instances=[name]) if made and name is not None else None,
        data=about.get("data"),
        error=operation.message or "it was not done" if state == "ERROR" else None,
    )


async def _endpoint(context: Context, operation: Operation) -> Endpoint | None:
    try:
        return await context.services.views.find(operation.endpoint, context.principal)
    except NotFound:
        return None


def _state(context: Context, operation: Operation, endpoint: Endpoint | None) -> State:
    if operation.kind is OperationKind.DELETE:
        match operation.state:
            case OperationState.PENDING:
                return "RUNNING"
            case OperationState.SUCCESS:
                return "FINISHED"
        return "ERROR"
    if operation.state is OperationState.PENDING and endpoint is not None and operation.workers:
        begun = context.services.views.endpoint(endpoint).workers
        return "FINISHED" if sum(begun.values()) else "NEW"
    # What became of its workers is told by the deployment, which is there all the same.
    return "FINISHED"


async def _found(context: Context, id: str) -> tuple[Context, Operation]:
    """The task, in whichever project of the caller it is: its id names no project. Raises `NotFound`."""
    services, caller = context.services, context.principal
    projects, _ = services.projects.page(caller, after=0, limit=TASKS_MAX) if caller.installation else ((), None)
    for number in dict.fromkeys((caller.project, *(project.number for project in projects))):
        acting = replace(caller, project=number)
        try:
            operation = await services.views.operation(OperationId(id), acting, wait_s=0)
        except NotFound:
            continue
        return Context(acting, services), operation
    raise NotFound(f"no task {id[:64]!r}")


@router.get("/v1/tasks/{task_id}", operation_id="get-task")
async def get_task(task_id: str, context: Anywhere) -> TaskOut:
    """How a change stands."""
    return await shown(*await _found(context, task_id))


# The form in which answers of that API mention it.
short = APIRouter(route_class=KeyedRoute, tags=["tasks"])


@short.get("/v1/tasks/{task_id}", operation_id="get-task-short")
async def get_task_short(task_id: str, context: Anywhere) -> TaskOut:
    """The same."""
    return await shown(*await _found(context, task_id))


async def _operations(context: Context, projects: Sequence[int] | None = None) -> list[tuple[Context, Operation]]:
    """The newest operations of the caller's project, or of those named, newest first."""
    services = context.services
    contexts = [context]
    if projects is not None:
        contexts = []
        for number in dict.fromkeys(projects):
            try:
                acting = services.projects.acting(context.principal, str(number))
            except NotFound:
                continue
            contexts.append(Context(acting, services))
    found = [
        (each, operation)
        for each in contexts
        for operation in await services.views.operations(each.principal, limit=TASKS_MAX)
    ]
    return sorted(found, key=lambda pair: pair[1].number, reverse=True)


@router.get("/v1/tasks", operation_id="list-tasks")
async def list_tasks(
    context: Anywhere,
    limit: Limit = 10,
    offset: Offset = 0,
    state: Annotated[list[State] | None, Query(max_length=10)] = None,
    task_type: Annotated[str | None, Query(max_length=255)] = None,
    project_id: Annotated[list[int] | None, Query(max_length=100)] = None,
    region_id: Annotated[list[int] | None, Query(max_length=100)] = None,
    is_acknowledged: bool | None = None,
    from_timestamp: datetime | None = None,
    to_timestamp: datetime | None = None,
    order_by: Literal["asc", "desc"] = "desc",
    sorting: Literal["asc", "desc"] | None = None,
) -> Page[TaskOut]:
    """The last thousand tasks of the project, made between these two times. No task belongs to a region."""
    if region_id:
        return Page.of([], limit=limit, offset=offset)
    since, until = seconds(from_timestamp, "/from_timestamp"), seconds(to_timestamp, "/to_timestamp")
    found = [
        (each, operation)
        for each, operation in await _operations(context, project_id)
        # To the second, as tasks show it.
        if (since is None or int(operation.created_at) >= since)
        and (until is None or int(operation.created_at) <= until)
    ]
    tasks = [await shown(*pair) for pair in found]
    tasks = [
        task
        for task in tasks
        if (not state or task.state in state)
        and task_type in (None, task.task_type)
        and is_acknowledged in (None, task.acknowledged_at is not None)
    ]
    if (sorting or order_by) == "asc":
        tasks.reverse()
    return Page.of(tasks, limit=limit, offset=offset)


async def _see(context: Context, operation: Operation) -> None:
    at = bare_moment(context.services.clock())
    await context.services.once.keep(context.principal.project, SEEN, operation.id, at)


@router.post("/v1/tasks/acknowledge_all", operation_id="acknowledge-all-tasks", status_code=204)
async def acknowledge_all_tasks(
    context: Anywhere, project_id: int | None = None, region_id: int | None = None
) -> Response:
    """Mark all that have ended as seen."""
    for each, operation in await _operations(context, None if project_id in (None, 0) else [project_id or 0]):
        if (await shown(each, operation)).state in ("FINISHED", "ERROR"):
            await _see(each, operation)
    return Response(status_code=204)


@router.post("/v1/tasks/{task_id}/acknowledge", operation_id="acknowledge-task")
async def acknowledge_task(task_id: str, context: Anywhere) -> TaskOut:
    """Mark one as seen."""
    own, operation = await _found(context, task_id)
    await _see(own, operation)
    return await shown(own, operation)


@router.get("/v1/tasks/{project_id}/{region_id}/active", operation_id="list-active-tasks")
async def list_active_tasks(context: Caller, region_id: int) -> Page[TaskOut]:
    """Those of a project that have not ended."""
    tasks = [await shown(*pair) for pair in await _operations(context)]
    active = [task for task in tasks if task.state in ("NEW", "RUNNING")]
    return Page.of(active, limit=TASKS_MAX, offset=0)

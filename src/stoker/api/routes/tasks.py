"""Tasks of an endpoint, its queue, and the webhooks that tell of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from stoker.api import sse
from stoker.api.once import OnceRoute
from stoker.api.routes.context import Caller, Cursor, Limit, after_of, cursor_of
from stoker.api.wire.base import Page
from stoker.api.wire.tasks import (
    BATCH_BYTES_MAX,
    DOCUMENT_BYTES_MAX,
    BatchIn,
    BatchOut,
    DeliveryOut,
    PurgedOut,
    QueueOut,
    RawIn,
    SubmittedOut,
    TaskIn,
    TaskOut,
)
from stoker.domain.task import INPUT_BYTES_MAX, TaskState
from stoker.web import Event, Submitted


class TaskRoute(OnceRoute):
    """Takes as large a document as a task may be."""

    bytes_max = DOCUMENT_BYTES_MAX
    large = "/input"


class BatchRoute(OnceRoute):
    """Takes many."""

    bytes_max = BATCH_BYTES_MAX
    large = "/tasks"


class RawRoute(OnceRoute):
    """Takes an input as it is."""

    bytes_max = INPUT_BYTES_MAX
    raw = True


router = APIRouter(route_class=OnceRoute, tags=["tasks"])
_documents = APIRouter(route_class=TaskRoute, tags=["tasks"])
_batches = APIRouter(route_class=BatchRoute, tags=["tasks"])
_raw = APIRouter(route_class=RawRoute, tags=["tasks"])


def _submitted(submitted: Submitted) -> SubmittedOut:
    return SubmittedOut(**TaskOut.of(submitted.task).model_dump(), created=submitted.created)


@_documents.post("/endpoints/{ref}/tasks", status_code=202)
async def submit_task(ref: str, body: TaskIn, context: Caller) -> SubmittedOut:
    """Submit a task; it is on disk before this answers. Its worker gets `input` as a JSON body."""
    return _submitted(await context.services.tasks.submit(context.principal, ref, body.to_draft()))


@_raw.post("/endpoints/{ref}/tasks:raw", status_code=202)
async def submit_raw_task(
    ref: str,
    request: Request,
    context: Caller,
    said: Annotated[RawIn, Query()],
    key: Annotated[str | None, Header(alias="X-Stoker-Webhook-Key", description="signs the webhook")] = None,
) -> SubmittedOut:
    """Submit a task whose input is this body, as it is, with its content type."""
    content_type = request.headers.get("content-type", "")
    tasks = context.services.tasks
    retries = tasks.retries(context.principal, ref)
    draft = said.to_draft(await request.body(), content_type, key=key, retries=retries)
    return _submitted(await tasks.submit(context.principal, ref, draft))


@_batches.post("/endpoints/{ref}/tasks:batch", status_code=202)
async def submit_tasks(ref: str, body: BatchIn, context: Caller) -> BatchOut:
    """Submit several tasks, all or none, in their order."""
    drafts = [task.to_draft(f"/tasks/{index}") for index, task in enumerate(body.tasks)]
    submitted = await context.services.tasks.submit_all(context.principal, ref, drafts)
    return BatchOut(items=[_submitted(each) for each in submitted])


@router.get("/endpoints/{ref}/tasks")
async def list_tasks(
    ref: str, context: Caller, state: TaskState | None = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[TaskOut]:
    """The endpoint's tasks, oldest first."""
    found, last = await context.services.tasks.page(
        context.principal, ref, state=state, after=after_of(cursor), limit=limit
    )
    return Page(items=[TaskOut.of(task) for task in found], next=cursor_of(last))


@router.get("/endpoints/{ref}/tasks/{task}")
async def get_task(ref: str, task: str, context: Caller) -> TaskOut:
    """A task with its attempts."""
    found = await context.services.tasks.get(context.principal, ref, task)
    return TaskOut.of(found, await context.services.tasks.attempts(found))


@router.get("/endpoints/{ref}/tasks/{task}/wait")
async def wait_for_task(
    ref: str, task: str, context: Caller, timeout: Annotated[float, Query(ge=0, le=55)] = 20.0
) -> TaskOut:
    """The task once it has ended, or as it is after `timeout` seconds."""
    return TaskOut.of(await context.services.tasks.wait(context.principal, ref, task, timeout_s=timeout))


@router.get("/endpoints/{ref}/tasks/{task}/events", response_class=Response)
async def follow_task(
    ref: str,
    task: str,
    context: Caller,
    last: Annotated[str | None, Header(alias="Last-Event-ID", description="go on after this event")] = None,
) -> Response:
    """What happens to the task (`stoker.task`) and what its worker answers, as server-sent events until its end; 204
    when `Last-Event-ID` is that of the end.
    """
    events = await context.services.tasks.events(context.principal, ref, task, after=last)
    if events is None:
        return Response(status_code=204)
    return sse.stream(_streamed(events))


async def _streamed(events: AsyncIterator[Event | None]) -> AsyncIterator[bytes]:
    async for event in events:
        if event is None:
            yield sse.BEAT
            continue
        name, data = "stoker.task", ""
        if event.task is not None:
            data = TaskOut.of(event.task).model_dump_json()
        elif event.piece is not None:
            name, data = event.piece.name, event.piece.data
        yield sse.event(event.id, name, data)


@router.get("/endpoints/{ref}/tasks/{task}/result", response_class=Response)
async def get_task_result(ref: str, task: str, context: Caller) -> Response:
    """What the worker answered, with its content type; its status is in `X-Stoker-Task-Status`."""
    found, pieces = await context.services.tasks.result(context.principal, ref, task)
    assert found.result is not None
    headers = {
        "Content-Length": str(found.result.size),
        "X-Stoker-Task-State": found.state.value,
        # A worker's page is no page of Stoker's.
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    if found.status is not None:
        headers["X-Stoker-Task-Status"] = str(found.status)
    media_type = found.result_type or "application/octet-stream"
    return StreamingResponse(pieces, headers=headers, media_type=media_type)


@router.post("/endpoints/{ref}/tasks/{task}:cancel")
async def cancel_task(ref: str, task: str, context: Caller) -> TaskOut:
    """End a task: at once while it is queued; a running one is aborted, and ends as soon as its worker was told."""
    return TaskOut.of(await context.services.tasks.cancel(context.principal, ref, task))


@router.post("/endpoints/{ref}/tasks/{task}:retry", status_code=202)
async def retry_task(ref: str, task: str, context: Caller) -> TaskOut:
    """Submit a new task that asks for the same as one that has ended, which stays as it is."""
    return TaskOut.of(await context.services.tasks.retry(context.principal, ref, task))


@router.get("/endpoints/{ref}/queue")
async def get_queue(ref: str, context: Caller) -> QueueOut:
    """The endpoint's queue as it stands."""
    return QueueOut.of(await context.services.tasks.queue(context.principal, ref))


@router.post("/endpoints/{ref}/queue:purge")
async def purge_queue(ref: str, context: Caller) -> PurgedOut:
    """Cancel everything that is queued now."""
    return PurgedOut(purged=await context.services.tasks.purge(context.principal, ref))


@router.post("/endpoints/{ref}/queue:pause")
async def pause_queue(ref: str, context: Caller) -> QueueOut:
    """Let no task begin until the queue is resumed; those that run go on."""
    await context.services.tasks.pause(context.principal, ref)
    return QueueOut.of(await context.services.tasks.queue(context.principal, ref))


@router.post("/endpoints/{ref}/queue:resume")
async def resume_queue(ref: str, context: Caller) -> QueueOut:
    """Let tasks begin again."""
    await context.services.tasks.resume(context.principal, ref)
    return QueueOut.of(await context.services.tasks.queue(context.principal, ref))


@router.get("/endpoints/{ref}/webhooks")
async def list_webhooks(ref: str, context: Caller, limit: Limit = 100, cursor: Cursor = None) -> Page[DeliveryOut]:
    """The webhooks that told, or are to tell, of the endpoint's tasks, oldest first."""
    found, last = await context.services.tasks.deliveries(context.principal, ref, after=after_of(cursor), limit=limit)
    return Page(items=[DeliveryOut.of(delivery) for delivery in found], next=cursor_of(last))


@router.post("/endpoints/{ref}/webhooks/{delivery}:redeliver", status_code=202)
async def redeliver_webhook(ref: str, delivery: str, context: Caller) -> DeliveryOut:
    """Send a webhook once more, with the same id and content."""
    return DeliveryOut.of(await context.services.tasks.redeliver(context.principal, ref, delivery))


for _part in (_documents, _raw, _batches):
    router.include_router(_part)

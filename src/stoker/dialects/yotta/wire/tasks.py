"""Tasks as they are submitted and shown."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self
from uuid import uuid4

import msgspec
from pydantic import BeforeValidator, Field, field_validator

from stoker.dialects.yotta.wire.base import PORT, PROCESS_URI, SUCCESS, Url, Whole, Wire, millis, none_is_absent
from stoker.domain.endpoint import Endpoint
from stoker.domain.errors import Invalid
from stoker.domain.launch import LaunchSpec
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import Delivery, DeliveryState, OnDuplicate, Task, TaskDraft, TaskState
from stoker.domain.worker import Worker

FORM = "yotta"
# Where the number of tasks is asked for: no task can be found by this id.
COUNT = "count"
# What a worker answers is the task's end; only one that did not answer at all is tried again.
RETRIES = RetryPolicy(attempts_max=3, retry_on=("connection",))
Status = Literal["PROCESSING", "DELIVERED", "SUCCESS", "FAILED"]
DeliveryStatus = Literal["INIT", "SUCCESS", "FAILED", "MAX_RETRIES_EXCEEDED"]
STATES: dict[Status, tuple[TaskState, ...]] = {
    "PROCESSING": (TaskState.QUEUED,),
    "DELIVERED": (TaskState.RUNNING,),
    "SUCCESS": (TaskState.SUCCEEDED,),
    "FAILED": (TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED),
}
_STATUS: dict[TaskState, Status] = {state: status for status, states in STATES.items() for state in states}
# What belongs to the connection with the worker, or to Stoker: clients pass on what they have.
_DROPPED = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
TaskId = Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9_]*$")]
ProcessUri = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9._~!$&'()*+,;=:@/-]+$")]


class TaskIn(Wire):
    """A task: `input` is posted to `process_uri` at the worker's port."""

    task_id: TaskId | None = None
    input: Any
    worker_port: Annotated[Whole, Field(ge=1, le=65_535)] = PORT
    process_uri: ProcessUri = PROCESS_URI
    webhook: Annotated[Url | None, BeforeValidator(none_is_absent)] = None
    webhook_auth_key: Annotated[str, Field(max_length=255, pattern=r"^[\x20-\x7e]*$")] | None = None
    headers: Annotated[dict[str, str], Field(max_length=64)] | None = None

    @field_validator("input")
    @classmethod
    def _something(cls, value: Any) -> Any:
        if value is None or value in ("", [], {}):
            raise ValueError("this must not be empty")
        return value

    @field_validator("task_id")
    @classmethod
    def _findable(cls, value: str | None) -> str | None:
        if value == COUNT:
            raise ValueError(f"a task called {value} could not be asked for: its address is another one's")
        return value

    def to_draft(self, launch: LaunchSpec, webhook: str | None) -> TaskDraft:
        """For an endpoint with this launch; `webhook` is where the ends of its tasks are told that do not say where.
        Raises `Invalid`.
        """
        try:
            body = json.dumps(self.input, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except (ValueError, RecursionError) as exc:
            raise Invalid.at("/input", f"this is not JSON: {exc}") from exc
        headers = self.headers or {}
        kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "application/json")
        # Where no port is declared, there is but one to go to.
        port = None if self.worker_port == launch.port or not launch.declared else self.worker_port
        return TaskDraft(
            input=body,
            content_type=kind,
            id=self.task_id or uuid4().hex,
            target=self.process_uri if self.process_uri.startswith("/") else f"/{self.process_uri}",
            port=port,
            headers=tuple((name, value) for name, value in headers.items() if not _is_dropped(name)),
            retries=RETRIES,
            webhook_url=self.webhook or webhook,
            webhook_key=self.webhook_auth_key or None,
            webhook_form=FORM,
            on_duplicate=OnDuplicate.EXISTING,
        )


def _is_dropped(name: str) -> bool:
    lower = name.lower()
    return lower in _DROPPED or lower.startswith(("x-stoker-", "x-forwarded-"))


class SubmittedOut(Wire):
    task_id: str


class TaskOut(Wire):
    """A task in a list. PROCESSING: it waits. DELIVERED: a worker has it."""

    task_id: str
    endpoint_id: int
    endpoint_name: str
    status: Status
    worker_url: str | None
    webhook: str | None
    delivery_status: DeliveryStatus
    delivery_attempts: int
    error: str | None
    created_at: int
    updated_at: int
    delivered_at: int | None

    @classmethod
    def of(cls, task: Task, endpoint: Endpoint, worker: Worker | None, delivery: Delivery | None) -> Self:
        """`worker` is the one that has or had it, `delivery` what tells of its end."""
        status, attempts, at = _delivered(delivery)
        updated = max(filter(None, (task.created_at, task.started_at, task.ended_at)))
        return cls(
            task_id=task.id,
            endpoint_id=endpoint.number,
            endpoint_name=endpoint.spec.name,
            status=_STATUS[task.state],
            worker_url=None if worker is None else _url(task, endpoint, worker),
            webhook=None if task.webhook is None else task.webhook.url,
            delivery_status=status,
            delivery_attempts=attempts,
            error=None if not task.state.final or task.state is TaskState.SUCCEEDED else task.reason or str(task.state),
            created_at=millis(task.created_at),
            updated_at=millis(updated),
            delivered_at=None if at is None else millis(at),
        )


def _delivered(delivery: Delivery | None) -> tuple[DeliveryStatus, int, float | None]:
    if delivery is None:
        return "INIT", 0, None
    if delivery.state is DeliveryState.DELIVERED:
        return "SUCCESS", delivery.tries, delivery.ended_at
    if delivery.state is DeliveryState.FAILED:
        return "MAX_RETRIES_EXCEEDED", delivery.tries, None
    return ("FAILED" if delivery.tries else "INIT"), delivery.tries, None


def _url(task: Task, endpoint: Endpoint, worker: Worker) -> str | None:
    if worker.address is None:
        return None
    launch = endpoint.launches.get(worker.pool)
    ports = {} if launch is None or worker.placement is None else launch.mapped(worker.placement)
    own = worker.address.port if task.port is None else ports.get(task.port, task.port)
    return f"http://{worker.address.host}:{own}{task.target}"


class TaskDetailOut(TaskOut):
    """One task by itself."""

    input: Any
    output: Any
    headers: dict[str, str] | None


class Pagination(Wire):
    """The same numbers as the page's own, in the words of an older version."""

    page: int
    page_size: int
    total_count: int
    total_pages: int


class TasksOut(Wire):
    """A page of tasks, the newest first."""

    items: list[TaskOut]
    page: int
    size: int
    total: int
    pages: int
    pagination: Pagination

    @classmethod
    def of(cls, items: list[TaskOut], *, page: int, size: int, total: int) -> Self:
        pages = -(-total // size)
        old = Pagination(page=page, page_size=size, total_count=total, total_pages=pages)
        return cls(items=items, page=page, size=size, total=total, pages=pages, pagination=old)


class CountOut(Wire):
    """`processing` wait or are with a worker, `delivered` are with one."""

    processing: int
    total: int
    delivered: int
    success: int
    failed: int


def detail(message: str, shown: TaskOut, task: Task, input: bytes, result: bytes | None) -> bytes:
    """A task with its bodies, which pass as they are; what is no JSON passes as a text."""
    data = shown.model_dump(by_alias=True) | {
        "input": _passed(input),
        "output": None if result is None else _passed(result),
        "headers": dict(task.headers) or None,
    }
    return msgspec.json.encode({"message": message, "code": SUCCESS, "data": data})


def _passed(body: bytes) -> msgspec.Raw | str:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return body.decode(errors="replace")
    return msgspec.Raw(body)

"""Tasks as they are said and answered. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field

from stoker.api.wire.base import In, Number, Whole, iso
from stoker.api.wire.spec import RetriesIn
from stoker.domain.errors import Invalid
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import (
    BATCH_MAX,
    INPUT_BYTES_MAX,
    KEY_CHARS_MAX,
    Attempt,
    Delivery,
    OnDuplicate,
    QueueView,
    Task,
    TaskDraft,
)


class WebhookIn(In):
    """Where the end of this task is told; what is left out is as the endpoint says."""

    url: str | None = Field(default=None, min_length=1, max_length=2_048)
    secret: str | None = Field(default=None, min_length=1, max_length=63, description="a secret's name")
    key: str | None = Field(
        default=None,
        min_length=1,
        max_length=KEY_CHARS_MAX,
        description="the key itself that signs, in the place of a secret: kept encrypted, never shown",
    )
    events: Annotated[tuple[str, ...], Field(max_length=8)] | None = None


class TaskIn(In):
    """A task. Its worker gets `input` as a JSON body. What is left out is as the endpoint's `queue` says."""

    input: Any = None
    id: str | None = Field(default=None, description="your own: the same id and input again is the same task")
    on_duplicate: OnDuplicate = Field(
        default=OnDuplicate.SAME,
        description="when there is one of this id: `same` answers it if it asks for the same, `existing` in any case",
    )
    priority: Whole = Field(default=0, description="higher goes first")
    ttl_s: Number | None = Field(default=None, description="one that has not started by then expires")
    execution_timeout_s: Number | None = Field(default=None, description="longest time of one attempt")
    retries: RetriesIn | None = None
    webhook: WebhookIn | None = None
    method: str = "POST"
    path: str | None = None
    port: Whole | None = Field(default=None, description="a port that `launch` declares; default: the main one")
    headers: Annotated[dict[str, str], Field(max_length=64)] = Field(default_factory=dict)

    def to_draft(self, pointer: str = "") -> TaskDraft:
        """Raises `Invalid`."""
        try:
            body = json.dumps(self.input, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except (ValueError, RecursionError) as exc:
            raise Invalid.at(f"{pointer}/input", f"this is not JSON: {exc}") from exc
        webhook = self.webhook or WebhookIn()
        return TaskDraft(
            input=body,
            content_type="application/json",
            id=self.id,
            on_duplicate=self.on_duplicate,
            priority=self.priority,
            ttl_s=self.ttl_s,
            execution_timeout_s=self.execution_timeout_s,
            retries=None if self.retries is None else self.retries.to_domain(f"{pointer}/retries"),
            webhook_url=webhook.url,
            webhook_secret=webhook.secret,
            webhook_key=webhook.key,
            webhook_events=webhook.events,
            method=self.method,
            target=self.path,
            port=self.port,
            headers=tuple(self.headers.items()),
        )


class RawIn(In):
    """What is said of a raw task in the query of its submission; its body is the input."""

    id: str | None = None
    on_duplicate: OnDuplicate = OnDuplicate.SAME
    priority: int = 0
    ttl_s: float | None = None
    execution_timeout_s: float | None = None
    method: str = "POST"
    path: str | None = None
    port: int | None = None
    header: Annotated[tuple[str, ...], Field(max_length=64)] = Field(default=(), description="`Name: value`, repeated")
    attempts_max: int | None = None
    backoff_s: float | None = None
    backoff_s_max: float | None = None
    retry_on: Annotated[tuple[str, ...], Field(max_length=32)] | None = None
    webhook_url: str | None = Field(default=None, min_length=1, max_length=2_048)
    webhook_secret: str | None = Field(default=None, min_length=1, max_length=63, description="a secret's name")
    webhook_events: Annotated[tuple[str, ...], Field(max_length=8)] | None = None

    def to_draft(self, body: bytes, content_type: str, *, key: str | None, retries: RetryPolicy) -> TaskDraft:
        """`key` is that of its webhook; `retries` are those of the endpoint. Raises `Invalid`."""
        changes = {
            name: value
            for name in ("attempts_max", "backoff_s", "backoff_s_max", "retry_on")
            if (value := getattr(self, name)) is not None
        }
        return TaskDraft(
            input=body,
            content_type=content_type,
            id=self.id,
            on_duplicate=self.on_duplicate,
            priority=self.priority,
            ttl_s=self.ttl_s,
            execution_timeout_s=self.execution_timeout_s,
            retries=replace(retries, **changes) if changes else None,
            webhook_url=self.webhook_url,
            webhook_secret=self.webhook_secret,
            webhook_key=key,
            webhook_events=self.webhook_events,
            method=self.method,
            target=self.path,
            port=self.port,
            headers=tuple(_header(place, line) for place, line in enumerate(self.header)),
        )


def _header(place: int, line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise Invalid.at(f"/header/{place}", "a header is `Name: value`")
    return name.strip(), value.strip()


class BatchIn(In):
    """Several tasks, all or none."""

    tasks: Annotated[tuple[TaskIn, ...], Field(min_length=1, max_length=BATCH_MAX)]


class AttemptOut(BaseModel):
    """One time that a worker had the task."""

    number: int
    worker: str | None
    began_at: str | None
    ended_at: str | None
    outcome: str
    status: int | None
    reason: str

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        return cls(
            number=attempt.number,
            worker=attempt.worker,
            began_at=iso(attempt.began_at),
            ended_at=iso(attempt.ended_at),
            outcome=attempt.outcome.value,
            status=attempt.status,
            reason=attempt.reason,
        )


class TaskOut(BaseModel):
    """A task. `status` is its worker's, of the last attempt; its answer is at `tasks/{id}/result`."""

    id: str
    number: int
    state: str
    priority: int
    method: str
    path: str
    port: int | None
    cancelling: bool
    attempts: int
    attempts_max: int
    status: int | None
    worker: str | None
    reason: str
    input_bytes: int
    result_bytes: int | None
    result_type: str | None
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    next_attempt_at: str | None
    expires_at: str | None
    tried: list[AttemptOut] | None = None

    @classmethod
    def of(cls, task: Task, tried: Sequence[Attempt] | None = None) -> Self:
        waits = task.state.value == "queued" and task.not_before > task.created_at
        return cls(
            id=task.id,
            number=task.number,
            state=task.state.value,
            priority=task.priority,
            method=task.method,
            path=task.target,
            port=task.port,
            cancelling=task.cancelling and not task.state.final,
            attempts=task.attempts,
            attempts_max=task.retries.attempts_max,
            status=task.status,
            worker=task.worker,
            reason=task.reason,
            input_bytes=task.input.size,
            result_bytes=None if task.result is None else task.result.size,
            result_type=task.result_type,
            created_at=iso(task.created_at),
            started_at=iso(task.started_at),
            ended_at=iso(task.ended_at),
            next_attempt_at=iso(task.not_before) if waits else None,
            expires_at=iso(task.expires_at) if task.started_at is None else None,
            tried=None if tried is None else [AttemptOut.of(attempt) for attempt in tried],
        )


class SubmittedOut(TaskOut):
    """A task, and whether this call made it."""

    created: bool


class BatchOut(BaseModel):
    """The tasks of a batch, in its order."""

    items: list[SubmittedOut]


class QueueOut(BaseModel):
    """A queue. `ready` may go now; the other queued ones wait for their next attempt. `arrivals_per_s` is of the last
    minute. `counts` has all kept ones.
    """

    queued: int
    ready: int
    running: int
    oldest_age_s: float | None
    arrivals_per_s: float
    paused: bool
    counts: dict[str, int]

    @classmethod
    def of(cls, view: QueueView) -> Self:
        return cls(
            queued=view.queued,
            ready=view.ready,
            running=view.running,
            oldest_age_s=view.oldest_age_s,
            arrivals_per_s=view.arrivals_per_s,
            paused=view.paused,
            counts=dict(view.counts),
        )


class PurgedOut(BaseModel):
    """How many tasks were cancelled."""

    purged: int


class DeliveryOut(BaseModel):
    """A webhook, and what became of it. Its receiver knows it by `id`, each time."""

    id: str
    number: int
    task: str
    event: str
    url: str
    state: str
    tries: int
    status: int | None
    error: str
    created_at: str | None
    next_at: str | None
    ended_at: str | None

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        return cls(
            id=delivery.id,
            number=delivery.number,
            task=delivery.task_id,
            event=delivery.event,
            url=delivery.url,
            state=delivery.state.value,
            tries=delivery.tries,
            status=delivery.status,
            error=delivery.error,
            created_at=iso(delivery.created_at),
            next_at=iso(delivery.next_at) if delivery.ended_at is None else None,
            ended_at=iso(delivery.ended_at),
        )


# The document of a task: its input, and room for the rest.
DOCUMENT_BYTES_MAX = INPUT_BYTES_MAX + 256 * 1024
BATCH_BYTES_MAX = 4 * INPUT_BYTES_MAX

"""Jobs as the gateway of jobs takes and tells them. Pure. Inputs and outputs pass as they are."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict

from stoker.dialects.novita.webhook import status_of, times_of
from stoker.domain.errors import Invalid
from stoker.domain.task import Task, TaskDraft, TaskState

LINES = "application/x-ndjson"


class RunIn(BaseModel):
    """A job, for its description alone: bodies are read without looking into the input."""

    model_config = ConfigDict(extra="allow")

    input: Any
    webhook: str | None = None


class JobMadeOut(BaseModel):
    id: str
    status: str


class JobOut(BaseModel):
    """A job as it stands. Times are in ms."""

    model_config = ConfigDict(extra="forbid")

    id: str
    status: str
    output: Any = None
    error: str | None = None
    delayTime: int | None = None
    executionTime: int | None = None


class PieceOut(BaseModel):
    output: Any


class StreamOut(BaseModel):
    status: str
    stream: list[PieceOut]


class JobsOut(BaseModel):
    inQueue: int
    inProgress: int
    completed: int
    failed: int
    # It is not counted.
    retried: int | None = None


class WorkersOut(BaseModel):
    idle: int
    initializing: int
    ready: int
    running: int
    throttled: int
    unhealthy: int


class HealthOut(BaseModel):
    jobs: JobsOut
    workers: WorkersOut


class StatsOut(BaseModel):
    busy_workers: int
    endpoint: str
    in_progress: int
    pending: int
    total_workers: int


class PurgedOut(BaseModel):
    removed: int
    status: str


class _Run(msgspec.Struct):
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    webhook: str | None = None


_run = msgspec.json.Decoder(_Run)
_lines = msgspec.json.Decoder(msgspec.Raw)


def draft_of(body: bytes) -> TaskDraft:
    """The task that is asked for. Raises `Invalid`."""
    try:
        asked = _run.decode(body)
        given = None if isinstance(asked.input, msgspec.UnsetType) else bytes(asked.input)
        # All of it is looked at once: what is no JSON would be a worker's to find out.
        msgspec.json.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as exc:
        raise Invalid(f"the body is no job: {exc}") from exc
    if given is None:
        raise Invalid.at("/input", "this is required")
    return TaskDraft(
        input=given,
        content_type="application/json",
        webhook_url=asked.webhook or None,
        webhook_form="novita" if asked.webhook else "",
    )


def told(task: Task, result: bytes | None, note: str = "") -> bytes:
    """A job as it stands; `result` is what its worker answered, `note` why that is not here."""
    shown: dict[str, Any] = {"id": task.id, "status": status_of(task), **times_of(task)}
    if task.state is TaskState.SUCCEEDED:
        shown["output"] = None if result is None else _output(task, result)
    elif task.state in (TaskState.FAILED, TaskState.EXPIRED):
        shown["error"] = _error(result) or task.reason
    if note:
        shown["error"] = note
    return msgspec.json.encode(shown)


def _output(task: Task, result: bytes) -> Any:
    kind = (task.result_type or "").partition(";")[0].strip().lower()
    try:
        if kind == LINES:
            return [_checked(line) for line in result.split(b"\n") if line]
        if kind == "application/json" or kind.endswith("+json"):
            return _checked(result)
    except (msgspec.DecodeError, RecursionError):
        # It says JSON and is none: it is shown as a text.
        pass
    return result.decode("utf-8", "replace")


def _checked(document: bytes) -> msgspec.Raw:
    msgspec.json.decode(document)
    return msgspec.Raw(document)


def _error(result: bytes | None) -> str | None:
    """The last word of a worker that failed."""
    if not result:
        return None
    last = result.rstrip(b"\n").rpartition(b"\n")[2]
    try:
        said = msgspec.json.decode(last)
    except (msgspec.DecodeError, RecursionError):
        return None
    error = said.get("error") if isinstance(said, dict) else None
    return error if isinstance(error, str) else None

"""Tasks: changes of deployments that take a while."""

from __future__ import annotations

from typing import Any, Literal

from stoker.dialects.gcore.wire.base import Wire

State = Literal["ERROR", "FINISHED", "NEW", "RUNNING"]


class Created(Wire):
    inference_instances: list[str]


class TaskOut(Wire):
    id: str
    created_on: str | None
    state: State
    task_type: str
    user_id: int
    acknowledged_at: str | None = None
    acknowledged_by: int | None = None
    client_id: int | None = None
    created_resources: Created | None = None
    data: Any = None
    detailed_state: None = None
    error: str | None = None
    finished_on: str | None = None
    job_id: str | None = None
    lifecycle_policy_id: int | None = None
    project_id: int | None = None
    region_id: int | None = None
    request_id: str | None = None
    schedule_id: str | None = None
    updated_on: str | None = None
    user_client_id: int | None = None

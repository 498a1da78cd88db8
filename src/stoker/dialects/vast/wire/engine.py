"""What the engine's own paths take and answer: routes, logs, workers, updates, and what workers report."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from stoker.dialects.vast.wire.base import Amount, Flag, Identified, Signed, Text, Whole, Wire

LINES_MAX = 10_000


class Asked(Identified):
    """By number, or an endpoint by name. `tail` is in lines; -1 is all there are."""

    id: Whole | None = None
    endpoint: Annotated[str, Strict(), Field(max_length=255)] | None = None
    tail: Annotated[int, Strict(), Field(ge=-1, le=1_000_000)] | None = None


class LogsOut(Wire):
    """Texts from the tersest (`info1`) to the most detailed."""

    info0: str
    info1: str
    trace: str
    debug: str


class WorkerOut(Wire):
    """A worker. What is not known is left out: clients take numbers alone."""

    id: int
    status: str
    cur_load: float
    new_load: float
    cur_load_rolling_avg: float
    cur_perf: float
    perf: float
    measured_perf: float
    dlperf: float
    reliability: float
    reqs_working: int
    disk_usage: float
    loaded_at: float
    started_at: float
    created_at: float
    gpu_name: str
    url: str


class UpdateIn(Identified):
    """Have workers of a workergroup replaced by new ones, or no longer."""

    workergroup_id: Whole
    cancel_update: Flag | None = None


class Updating(Wire):
    success: bool = True
    workers_to_update: int


class Cancelled(Wire):
    success: bool = True
    cancelled: bool = True


class RouteIn(Identified):
    """A request that is to come; with a `request_idx` it is asked for again."""

    endpoint: Annotated[str, Strict(), Field(max_length=255)] | None = None
    endpoint_id: Whole | None = None
    cost: Amount | None = None
    request_idx: Annotated[int, Strict()] | None = None
    replay_timeout: Amount | None = None
    latency: Amount | None = None
    guid: Any = None


class Routed(Wire):
    """Which worker takes it. All of it goes on to the worker, which checks the signature."""

    endpoint: str
    url: str
    cost: float
    reqnum: int
    request_idx: int
    signature: str
    request_id: Annotated[str, Field(serialization_alias="__request_id")]


class NotReady(Wire):
    """No worker yet: ask again with the same `request_idx`."""

    endpoint: str
    request_idx: int
    status: str
    request_id: Annotated[str, Field(serialization_alias="__request_id")]


class StatusIn(Wire):
    """What a worker says of itself every few seconds. One that did not come up says only what went wrong."""

    id: Whole
    mtoken: Text
    version: Text = ""
    loadtime: Amount | None = None
    cur_load: Signed | None = None
    new_load: Signed | None = None
    rej_load: Signed | None = None
    max_perf: Amount | None = None
    cur_perf: Signed | None = None
    error_msg: Annotated[str, Strict(), Field(max_length=65_536)] | None = None
    num_requests_working: Whole | None = None
    num_requests_recieved: Whole | None = None
    disk_usage: Signed | None = None
    additional_disk_usage: Signed | None = None
    working_request_idxs: Annotated[list[int], Field(max_length=10_000)] | None = None
    url: Text | None = None


class EndedIn(Wire):
    """A request that a worker is through with."""

    request_idx: int
    success: Flag | None = None
    status: Text | None = None
    entered_queue_at: float | None = None
    work_started_at: float | None = None
    work_completed_at: float | None = None


class DeleteIn(Wire):
    """Requests that are over."""

    worker_id: Whole
    mtoken: Text
    requests: Annotated[list[EndedIn], Field(max_length=10_000)]


class Taken(Wire):
    status: Literal["ok"] = "ok"

"""Endpoints, workergroups and workers as they are shown, whoever made them; what they lack is computed."""

from __future__ import annotations

from collections.abc import Mapping

from stoker.dialects.vast import TEST_WORKERS, search, worker_path
from stoker.dialects.vast.mapping import Group, kept_of
from stoker.dialects.vast.wire.endpoints import EndpointOut, State
from stoker.dialects.vast.wire.engine import WorkerOut
from stoker.dialects.vast.wire.groups import GroupKept, GroupOut
from stoker.domain.endpoint import Endpoint, Phase
from stoker.domain.gpus import spelled
from stoker.domain.load import WorkReport
from stoker.domain.views import WorkerView
from stoker.domain.worker import Worker, WorkerState

# What holds for a workergroup that says nothing.
GPU_RAM = 24.0
_STATES: Mapping[WorkerState, str] = {
    WorkerState.PENDING: "creating",
    WorkerState.STARTING: "loading",
    WorkerState.COLD: "stopped",
    WorkerState.DRAINING: "stopping",
    WorkerState.STOPPING: "destroying",
    WorkerState.STOPPED: "destroyed",
    WorkerState.FAILED: "error",
}


def state_of(endpoint: Endpoint) -> State:
    """What its owner wants of it."""
    if endpoint.phase is Phase.STOPPED:
        return "stopped"
    held = endpoint.override is not None and endpoint.override.until is None
    return "suspended" if held and kept_of(endpoint.spec).state == "suspended" else "active"


def endpoint_out(endpoint: Endpoint, *, key: str) -> EndpointOut:
    """`key` works at its routes and workers."""
    kept = kept_of(endpoint.spec)
    return EndpointOut(
        id=endpoint.number,
        endpoint_name=endpoint.spec.name,
        api_key=key,
        user_id=endpoint.project,
        created_at=endpoint.created_at,
        min_load=kept.min_load,
        min_cold_load=kept.min_cold_load,
        target_util=kept.target_util,
        cold_mult=kept.cold_mult,
        cold_workers=kept.cold_workers,
        max_workers=kept.max_workers,
        max_queue_time=kept.max_queue_time,
        target_queue_time=kept.target_queue_time,
        inactivity_timeout=kept.inactivity_timeout,
        endpoint_state=state_of(endpoint),
    )


def group_out(endpoint: Endpoint, group: Group, *, key: str) -> GroupOut:
    """What a workergroup was not told, its endpoint says, then the defaults."""
    of, kept = group.kept or GroupKept(), kept_of(endpoint.spec)
    said = of.search_params or ""
    return GroupOut(
        id=group.id,
        endpoint_id=endpoint.number,
        endpoint_name=endpoint.spec.name,
        template_hash=of.template_hash,
        template_id=of.template_id,
        search_params=said,
        search_query=search.parsed(said),
        launch_args=of.launch_args,
        gpu_ram=GPU_RAM if of.gpu_ram is None else of.gpu_ram,
        min_load=kept.min_load if of.min_load is None else of.min_load,
        target_util=kept.target_util if of.target_util is None else of.target_util,
        cold_mult=kept.cold_mult if of.cold_mult is None else of.cold_mult,
        cold_workers=kept.cold_workers if of.cold_workers is None else of.cold_workers,
        max_workers=group.pool.bounds.max if of.max_workers is None else of.max_workers,
        test_workers=TEST_WORKERS if of.test_workers is None else of.test_workers,
        api_key=key,
        user_id=endpoint.project,
        created_at=endpoint.created_at if of.created_at is None else of.created_at,
    )


def status_of(worker: Worker, *, loaded: bool) -> str:
    """How a worker stands, in the engine's words."""
    if worker.state is not WorkerState.READY:
        return _STATES[worker.state]
    return "idle" if loaded and not worker.unready else "loading"


def worker_out(
    view: WorkerView,
    report: WorkReport | None,
    *,
    loaded: bool,
    perf: float,
    rate: float,
    family: str | None,
    base: str,
) -> WorkerOut:
    """A worker, `loaded` or not. `base` is where Stoker's own address begins, `rate` the load asked of its endpoint,
    for each of its workers.
    """
    worker = view.worker
    said = report or WorkReport(at=view.now, loaded=loaded)
    measured = perf if loaded else 0.0
    disk = said.disk_gib if said.disk_gib is not None else 0.0
    return WorkerOut(
        id=worker.number,
        status=status_of(worker, loaded=loaded),
        cur_load=rate,
        new_load=said.received,
        cur_load_rolling_avg=rate,
        cur_perf=said.served,
        perf=measured,
        measured_perf=measured,
        dlperf=perf,
        reliability=1.0,
        reqs_working=max(view.in_flight or 0, said.working),
        disk_usage=disk,
        loaded_at=worker.ready_at or 0.0,
        started_at=worker.started_at or 0.0,
        created_at=worker.created_at,
        gpu_name="CPU" if family is None else spelled(family, "vast", vram_gib=0),
        url=f"{base}{worker_path(worker.id)}",
    )

"""What workers report: how they are, and which requests they are through with. Each is known by its token."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from stoker.dialects.vast.caller import KeyedRoute
from stoker.dialects.vast.errors import BadWorker
from stoker.dialects.vast.wire.engine import DeleteIn, StatusIn, Taken
from stoker.domain.load import WorkReport
from stoker.domain.worker import Worker
from stoker.web import Services, services_of

router = APIRouter(route_class=KeyedRoute, tags=["workers"])

ERROR_CHARS_MAX = 500


def _worker(services: Services, number: int, token: str) -> Worker:
    """The worker that this is. Raises `BadWorker`."""
    worker = services.load.worker(number, token)
    if worker is None:
        raise BadWorker
    return worker


@router.post("/worker_status", operation_id="worker-status")
async def worker_status(body: StatusIn, request: Request) -> Taken:
    """How a worker is. One whose `error_msg` is not empty has failed."""
    services = services_of(request)
    worker = _worker(services, body.id, body.mtoken)
    report = WorkReport(
        at=services.clock(),
        loaded=bool(body.loadtime),
        load_s=body.loadtime or None,
        perf=body.max_perf or None,
        load=max(0.0, body.cur_load or 0.0),
        received=max(0.0, body.new_load or 0.0),
        served=max(0.0, body.cur_perf or 0.0),
        working=body.num_requests_working or 0,
        requests=tuple(body.working_request_idxs or ()),
        disk_gib=body.disk_usage,
        error=(body.error_msg or "")[:ERROR_CHARS_MAX],
    )
    services.load.reported(worker, report)
    return Taken()


@router.post("/delete_requests", operation_id="delete-requests")
async def delete_requests(body: DeleteIn, request: Request) -> Taken:
    """Requests that a worker is through with."""
    services = services_of(request)
    worker = _worker(services, body.worker_id, body.mtoken)
    for ended in body.requests:
        services.load.ended(worker, ended.request_idx)
    return Taken()

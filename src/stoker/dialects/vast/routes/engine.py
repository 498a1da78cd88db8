"""The engine's paths about what runs: logs, workers, and replacing workers by new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

from fastapi import APIRouter

from stoker.dialects.vast import mapping, reports, showing
from stoker.dialects.vast.caller import Caller, Context, KeyedRoute
from stoker.dialects.vast.routes import endpoints
from stoker.dialects.vast.routes.groups import found
from stoker.dialects.vast.wire.engine import LINES_MAX, Asked, Cancelled, LogsOut, UpdateIn, Updating, WorkerOut
from stoker.domain.authorisation import Action
from stoker.domain.endpoint import Endpoint
from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest, Offer
from stoker.domain.views import WorkerView
from stoker.domain.worker import Worker, WorkerState

router = APIRouter(route_class=KeyedRoute, tags=["engine"])

NOTES_MAX = 1_000


async def _endpoint(context: Context, body: Asked) -> Endpoint:
    if body.id is not None:
        return await context.numbered(body.id)
    if body.endpoint is not None:
        return await context.named(body.endpoint)
    raise Invalid.at("/id", "say id, or endpoint")


def _line(at: float, text: str) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} {text}"


def _tail(notes: Sequence[tuple[float, str]], lines: int) -> str:
    return "\n".join(_line(at, text) for at, text in sorted(notes)[-lines:])


async def _logs(context: Context, endpoint: Endpoint, body: Asked, pool: str | None) -> LogsOut:
    """`info1` has what happened, `info0` decisions as well, `trace` with what they were made of, `debug` all output."""
    lines = LINES_MAX if body.tail is None or body.tail < 0 else min(body.tail, LINES_MAX)
    if not lines:
        return LogsOut(info0="", info1="", trace="", debug="")
    views, own = context.services.views, await _workers_of(context, endpoint, pool)
    ids = {view.worker.id for view in own}
    count = min(lines, NOTES_MAX)
    events = [
        (event.at, event.message)
        for event in await views.events(endpoint.id, after=None, limit=count)
        if pool is None or event.worker in ids
    ]
    made = await views.decisions(endpoint.id, limit=count)
    decisions = [(each.at, f"{each.current} -> {each.workers} workers: {each.reason}") for each in made]
    traced = [
        (each.at, f"{each.current} -> {each.workers} workers: {each.reason} {dict(each.inputs)}") for each in made
    ]
    async with aclosing(context.services.logs.of_endpoint(endpoint.id, tail=lines, follow=False)) as entries:
        output = [(entry.at, entry.text) async for entry in entries if pool is None or entry.worker in ids]
    return LogsOut(
        info1=_tail(events, lines),
        info0=_tail([*events, *decisions], lines),
        trace=_tail([*events, *traced], lines),
        debug="\n".join(_line(at, text) for at, text in output[-lines:]),
    )


async def _workers_of(context: Context, endpoint: Endpoint, pool: str | None) -> list[WorkerView]:
    found = await context.services.views.workers(endpoint)
    return [view for view in found if pool is None or view.worker.pool == pool]


def _shown(context: Context, endpoint: Endpoint, views: Sequence[WorkerView]) -> list[WorkerOut]:
    """Those that are not gone, oldest first."""
    load = context.services.load
    live = sorted((v for v in views if not v.worker.gone), key=lambda v: v.worker.number)
    ready = sum(1 for view in live if view.worker.state is WorkerState.READY)
    rate = load.rate(endpoint.id) / max(1, ready)
    hosts = context.services.views.hosts(context.principal, HardwareRequest())
    offers = {(host.provider, host.offer.host): host.offer for host in hosts}
    return [
        showing.worker_out(
            view,
            load.report_of(view.worker.id),
            loaded=load.loaded(view.worker, silent=reports(endpoint)),
            perf=load.perf(view.worker),
            rate=rate if view.worker.state is WorkerState.READY else 0.0,
            family=_family(view.worker, offers),
            base=context.services.url,
        )
        for view in live
    ]


def _family(worker: Worker, offers: Mapping[tuple[str, str], Offer]) -> str | None:
    """Of its cards, if it has any."""
    placement = worker.placement
    offer = None if placement is None else offers.get((worker.provider, placement.host))
    if placement is None or offer is None:
        return None
    return next((gpu.family for gpu in offer.gpus if gpu.index in placement.gpus), None)


@router.post("/get_endpoint_logs", operation_id="endpoint-logs")
async def endpoint_logs(body: Asked, context: Caller) -> LogsOut:
    """What happened to an endpoint, at four levels."""
    return await _logs(context, await _endpoint(context, body), body, None)


async def workergroup_logs(body: Asked, context: Caller) -> LogsOut:
    """What happened to a workergroup's workers, at four levels."""
    endpoint, group = await found(context, body.id)
    return await _logs(context, endpoint, body, group.pool.name)


@router.post("/get_endpoint_workers", operation_id="endpoint-workers")
async def endpoint_workers(body: Asked, context: Caller) -> list[WorkerOut]:
    """An endpoint's workers."""
    endpoint = await _endpoint(context, body)
    return _shown(context, endpoint, await _workers_of(context, endpoint, None))


async def workergroup_workers(body: Asked, context: Caller) -> list[WorkerOut]:
    """A workergroup's workers."""
    endpoint, group = await found(context, body.id)
    return _shown(context, endpoint, await _workers_of(context, endpoint, group.pool.name))


for number, spelling in enumerate(("autogroup", "workergroup")):
    for path, name, function in (
        (f"/get_{spelling}_logs", "workergroup-logs", workergroup_logs),
        (f"/get_{spelling}_workers", "workergroup-workers", workergroup_workers),
    ):
        router.add_api_route(path, function, methods=["POST"], operation_id=name, include_in_schema=not number)


@router.post("/update_workers", operation_id="update-workers")
async def update_workers(body: UpdateIn, context: Caller) -> Updating | Cancelled:
    """Replace all workers of a workergroup, one after the other and without cutting a request; or go back to those
    that are left of the ones before.
    """
    endpoint, group = await found(context, body.workergroup_id, Action.ENDPOINT_UPDATE)
    live = [v for v in await _workers_of(context, endpoint, group.pool.name) if not v.worker.gone]
    spec = mapping.renewed(endpoint.spec, group.pool.name, back=bool(body.cancel_update))
    await endpoints.apply(context, endpoint, spec, mapping.kept_of(endpoint.spec))
    return Cancelled() if body.cancel_update else Updating(workers_to_update=len(live))

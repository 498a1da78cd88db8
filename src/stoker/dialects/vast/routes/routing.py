"""Which worker takes a request: its address, signed. And what workers and clients check it with."""

from __future__ import annotations

import json
from uuid import uuid4

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from stoker.dialects.vast import mapping, reports, worker_path
from stoker.dialects.vast.caller import Caller, Context, KeyedRoute
from stoker.dialects.vast.wire.engine import NotReady, Routed, RouteIn
from stoker.domain.authorisation import Action
from stoker.domain.endpoint import Endpoint, Phase
from stoker.domain.errors import Invalid
from stoker.domain.load import USUAL, Announcement
from stoker.web import services_of

router = APIRouter(route_class=KeyedRoute, tags=["routing"])


def signed_text(url: str) -> str:
    """What is signed of an address, to the byte."""
    return json.dumps({"url": url}, indent=4, sort_keys=True)


async def _endpoint(context: Context, body: RouteIn) -> Endpoint:
    if body.endpoint is not None:
        return await context.named(body.endpoint, Action.RESERVATION_CREATE)
    if body.endpoint_id is not None:
        return await context.numbered(body.endpoint_id, Action.RESERVATION_CREATE)
    raise Invalid.at("/endpoint", "say endpoint, or endpoint_id")


@router.post("/route", operation_id="route", response_model_exclude_none=True)
async def route(body: RouteIn, context: Caller) -> Routed | NotReady:
    """A worker for a request, or none yet: ask again with the same `request_idx`, which counts once."""
    endpoint = await _endpoint(context, body)
    wait_s = mapping.kept_of(endpoint.spec).max_queue_time
    announced = await context.services.load.announce(
        context.principal,
        endpoint,
        cost=USUAL if body.cost is None else body.cost,
        number=body.request_idx or 0,
        silent=reports(endpoint),
        # Nothing is what nobody waits for: a worker that has something to do is then none.
        wait_s=max(wait_s, 0.001),
    )
    request_id = str(uuid4())
    if announced.worker is None:
        return NotReady(
            endpoint=endpoint.spec.name,
            request_idx=announced.number,
            status=_status(context, endpoint),
            request_id=request_id,
        )
    return await _routed(context, endpoint, announced, request_id)


async def _routed(context: Context, endpoint: Endpoint, announced: Announcement, request_id: str) -> Routed:
    url = f"{context.services.url}{worker_path(announced.worker or '')}"
    key = await context.services.signing.key()
    return Routed(
        endpoint=endpoint.spec.name,
        url=url,
        cost=announced.cost,
        # Workers tell requests apart by it, and expect it to grow.
        reqnum=announced.number,
        request_idx=announced.number,
        signature=key.sign(signed_text(url)),
        request_id=request_id,
    )


def _status(context: Context, endpoint: Endpoint) -> str:
    """How its workers stand, in a few words."""
    if endpoint.phase is Phase.STOPPED:
        return "endpoint stopped"
    counts = context.services.views.endpoint(endpoint).workers
    shown = ", ".join(f"{count} {state.value}" for state, count in counts.items())
    return f"no worker is ready: {shown or 'none is running'}"


@router.get("/pubkey", operation_id="public-key")
async def public_key(request: Request) -> Response:
    """What signatures are checked with, in PEM."""
    return PlainTextResponse((await services_of(request).signing.key()).public_pem)


@router.get("/static/jvastai_root.cer", operation_id="certificate")
async def certificate(request: Request) -> Response:
    """The certificate that clients fetch before they call anything."""
    key = await services_of(request).signing.key()
    return Response(key.certificate, media_type="application/x-pem-file")

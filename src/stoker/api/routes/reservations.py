"""Reservations: tickets for one worker of an endpoint."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from stoker.api.once import OnceRoute
from stoker.api.routes.context import Caller, Context
from stoker.api.wire.base import Page
from stoker.api.wire.reservations import ReservationIn, ReservationOut
from stoker.domain.authorisation import Action
from stoker.domain.endpoint import Endpoint
from stoker.domain.reservation import Reservation

router = APIRouter(route_class=OnceRoute, tags=["reservations"])


def _out(context: Context, endpoint: Endpoint, reservation: Reservation) -> ReservationOut:
    return ReservationOut.of(reservation, url=f"{context.services.url}/e/{endpoint.slug}")


@router.post("/endpoints/{ref}/reservations", status_code=201)
async def create_reservation(ref: str, context: Caller, body: ReservationIn | None = None) -> ReservationOut:
    """A ticket for the least loaded worker. Where none is ready: 503, and the endpoint is woken."""
    endpoint = await context.endpoint(ref, Action.RESERVATION_CREATE)
    said = body or ReservationIn()
    made = await context.services.reservations.create(
        context.principal, endpoint, cost=said.cost, expires_s=said.expires_s
    )
    return _out(context, endpoint, made)


@router.get("/endpoints/{ref}/reservations")
async def list_reservations(ref: str, context: Caller) -> Page[ReservationOut]:
    """Tickets that hold, oldest first: those of the same key, or all for a key that may change the endpoint."""
    endpoint = await context.endpoint(ref, Action.RESERVATION_LIST)
    found = context.services.reservations.list(context.principal, endpoint)
    return Page(items=[_out(context, endpoint, each) for each in found])


@router.get("/endpoints/{ref}/reservations/{reservation}")
async def get_reservation(ref: str, reservation: str, context: Caller) -> ReservationOut:
    """A ticket by id or number, as long as it holds."""
    endpoint = await context.endpoint(ref, Action.RESERVATION_READ)
    return _out(context, endpoint, context.services.reservations.get(context.principal, endpoint, reservation))


@router.delete("/endpoints/{ref}/reservations/{reservation}", status_code=204)
async def release_reservation(ref: str, reservation: str, context: Caller) -> Response:
    """Give a ticket back; requests that are under way with it go on."""
    endpoint = await context.endpoint(ref, Action.RESERVATION_RELEASE)
    context.services.reservations.release(context.principal, endpoint, reservation)
    return Response(status_code=204)

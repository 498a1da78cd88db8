"""Reservations as they are said and answered. Pure."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field

from stoker.api.wire.base import In, Number, iso
from stoker.domain.reservation import EXPIRES_S, Reservation


class ReservationIn(In):
    """What is announced."""

    cost: Number = Field(default=1.0, description="load of the request to come, in requests of usual size")
    expires_s: Number = Field(default=EXPIRES_S, description="how long the ticket holds, in seconds; at most 600")


class ReservationOut(BaseModel):
    """A ticket: requests to the endpoint with its id in `X-Stoker-Reservation` go to its worker, until it expires.
    `used`: one has come.
    """

    id: str
    number: int
    endpoint: str
    worker: str
    cost: float
    used: bool
    created_at: str | None
    expires_at: str | None
    url: str

    @classmethod
    def of(cls, reservation: Reservation, *, url: str) -> Self:
        """`url` is where requests of the endpoint go."""
        return cls(
            id=reservation.id,
            number=reservation.number,
            endpoint=reservation.endpoint,
            worker=reservation.worker,
            cost=reservation.cost,
            used=reservation.used,
            created_at=iso(reservation.created_at),
            expires_at=iso(reservation.expires_at),
            url=url,
        )

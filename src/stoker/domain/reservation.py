"""A reservation: a ticket for one worker of an endpoint, for a short while. Frozen; says what it cannot be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NewType

from stoker.domain.access import KeyId
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.errors import Invalid
from stoker.domain.limits import within
from stoker.domain.worker import WorkerId

ReservationId = NewType("ReservationId", str)

COST_MAX = 1_000_000.0
# Tickets live in memory, and a request that was announced comes within seconds.
EXPIRES_S_MAX = 600.0
EXPIRES_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Times are seconds since the epoch. `cost` is the load that the request will be, in requests of usual size; it
    counts until the first request has come with the ticket (`used`). `key` is whose it is.
    """

    id: ReservationId
    number: int
    endpoint: EndpointId
    project: ProjectId
    worker: WorkerId
    key: KeyId
    cost: float
    created_at: float
    expires_at: float
    used: bool = False

    def holds(self, now: float) -> bool:
        """Is it good at `now`?"""
        return now < self.expires_at

    @property
    def load(self) -> float:
        """What it adds to its worker's load beyond the requests in flight there."""
        return 0.0 if self.used else self.cost


def check_ticket(cost: float, expires_s: float) -> None:
    """Raises `Invalid` at what cannot be."""
    if not (math.isfinite(cost) and 0 < cost <= COST_MAX):
        raise Invalid.at("/cost", f"cost must be above 0 and at most {COST_MAX:g}")
    within("/expires_s", expires_s, 1, EXPIRES_S_MAX)

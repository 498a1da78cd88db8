"""What asks for a slot: one request's turn, whom to tell how its wait ended, and what a refusal says. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from stoker.gateway.workers import Worker


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served now. `reason` is a stable word; `retry_after_s` is `None` when nobody can tell."""

    reason: str
    text: str
    retry_after_s: float | None = None


BUSY: Final = Refusal("busy", "no worker has a free slot now", 1.0)
NO_CAPACITY: Final = Refusal("no_capacity", "no worker is there now; one is asked for", 5.0)
ROOM_FULL: Final = Refusal("waiting_room_full", "as many requests wait as may wait for this endpoint")
WORKER_UNAVAILABLE: Final = Refusal(
    "worker_unavailable", "the worker that this request is bound to takes none (any more)"
)
SESSION_LOST: Final = Refusal("session_lost", "the worker of this session is gone; the next request begins it anew")


class Applicant(Protocol):
    """Whoever a turn belongs to; told how its wait ended. May enter or leave other turns from within."""

    def admitted(self, worker: Worker) -> None: ...

    def refused(self, refusal: Refusal) -> None: ...


class Turn:
    """One request's claim on a slot: waiting, holding one (`worker`), or neither.

    `hold_s` bounds its wait; 0 asks for a slot now or never. `pin` is the only worker that will do. A `task` never
    waits and never goes before anybody who does. `session` ties requests together where the endpoint says so; `hint`
    is the worker that its client remembers.
    """

    __slots__ = (
        "applicant",
        "deadline",
        "entered_at",
        "hint",
        "hold_s",
        "number",
        "pin",
        "prefer",
        "session",
        "task",
        "waiting",
        "worker",
    )

    def __init__(
        self,
        applicant: Applicant,
        *,
        hold_s: float | None = None,
        pin: str | None = None,
        session: bytes | None = None,
        hint: str | None = None,
        task: bool = False,
    ) -> None:
        self.applicant = applicant
        self.hold_s = hold_s
        self.pin = pin
        self.prefer: str | None = None
        self.session = session
        self.hint = hint
        self.task = task
        self.worker: Worker | None = None
        self.waiting = False
        self.number = 0
        self.entered_at = 0.0
        self.deadline = 0.0

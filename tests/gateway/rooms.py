"""The room of one endpoint for tests, with nobody at the other end of its turns."""

from __future__ import annotations

from typing import Any

from stoker.gateway.admission import Admission, Refusal, Turn, Worker
from stoker.link.messages import EndpointEntry, WorkerEntry


def entry_of(id: str, *, slots: int = 1, order: int = 0, draining: bool = False) -> WorkerEntry:
    """A worker's row."""
    return WorkerEntry(id, "127.0.0.1", 1, slots, order, draining)


class Someone:
    """An applicant that remembers what it was told."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told

    def admitted(self, worker: Worker) -> None:
        """Note it."""
        self.told.append(f"{self.name}:{worker.id}")

    def refused(self, refusal: Refusal) -> None:
        """Note it."""
        self.told.append(f"{self.name}:{refusal.reason}")


class Room:
    """An admission and what it says to those who wait."""

    def __init__(self, entry: EndpointEntry) -> None:
        self.told: list[str] = []
        self.wakes = 0
        self.touches = 0
        self.freed = 0
        self.it = Admission(entry, 0.0, on_touched=self._touched, on_wait=self._waits, on_free=self._free)

    def _touched(self, admission: Admission) -> None:
        self.touches += 1

    def _free(self, admission: Admission) -> None:
        self.freed = admission.slots_free()

    def _waits(self, admission: Admission) -> None:
        self.wakes += 1

    def enter(
        self, name: str = "x", now: float = 0.0, *, hold_s: float | None = None, pin: str | None = None, **more: Any
    ) -> tuple[Turn, str]:
        """A request enters; what came of it."""
        turn = Turn(Someone(name, self.told), hold_s=hold_s, pin=pin, **more)
        outcome = self.it.enter(turn, now)
        if outcome is None:
            return turn, "waits"
        return turn, outcome.id if isinstance(outcome, Worker) else outcome.reason

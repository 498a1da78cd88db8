"""Slots during an upgrade: what a gateway on its way out still needs is not its successor's. Pure; `link.server` asks.

A leaving gateway says what it keeps, and that only shrinks. A worker that appears meanwhile is shared out before either
has used it: as many slots as requests wait at the old gateway, the rest to the new one.
"""

from __future__ import annotations

import msgspec

from stoker.link.messages import EndpointEntry, Report


class Leaver:
    """One gateway on its way out. `told`: it has said what it keeps."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.told = False
        self._kept: dict[str, dict[str, int]] = {}
        self._waiting: dict[str, int] = {}

    def take(self, report: Report) -> set[str]:
        """It reports; the endpoints of which it keeps less, or something else, than before."""
        self.told = True
        changed = set()
        for entry in report.endpoints:
            before = self._kept.get(entry.id, {})
            # What it has not heard of yet, it cannot speak of: that stays as it was shared out.
            kept = {w: min(slots, entry.kept.get(w, 0)) if w in entry.workers else slots for w, slots in before.items()}
            if entry.id not in self._kept:
                kept = dict(entry.kept)
            self._kept[entry.id] = {worker: slots for worker, slots in kept.items() if slots}
            self._waiting[entry.id] = entry.waiting
            if self._kept[entry.id] != before:
                changed.add(entry.id)
        return changed

    def keeps(self, endpoint: str, worker: str) -> int:
        """The slots of this worker that it needs still."""
        return self._kept.get(endpoint, {}).get(worker, 0)

    def entry(self, entry: EndpointEntry, known: frozenset[str]) -> EndpointEntry:
        """The entry as it is for the leaving gateway; `known` are the workers that there were before this change."""
        if not self.told:
            return entry
        kept = self._kept.setdefault(entry.id, {})
        waiting = self._waiting.get(entry.id, 0)
        workers = []
        for worker in entry.workers:
            if worker.id not in known and worker.id not in kept and waiting > 0:
                kept[worker.id] = min(worker.slots, waiting)
                waiting -= kept[worker.id]
            workers.append(msgspec.structs.replace(worker, slots=kept.get(worker.id, 0)))
        self._waiting[entry.id] = waiting
        return msgspec.structs.replace(entry, workers=tuple(workers))

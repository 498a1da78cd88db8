"""The jobs that workers have taken, in memory: by task, by worker, and how many each has."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from stoker.domain.endpoint import EndpointId
from stoker.domain.task import Task
from stoker.domain.worker import WorkerId


@dataclass(slots=True, eq=False)
class Taken:
    """A job. `named_at` is when its worker last spoke of it; `asked_at` when it was to be given up, `told` that the
    worker has heard so. `known`: the worker has said that it has it. `ending`: its end is being recorded.
    `grown` is set when there is more of its output, or it is over.
    """

    task: Task
    worker: WorkerId
    began_at: float
    named_at: float
    asked_at: float | None = None
    told: bool = False
    known: bool = False
    ending: bool = False
    grown: asyncio.Event = field(default_factory=asyncio.Event)


class Jobs:
    """All of them. Tasks are known by number; to their workers, by id."""

    def __init__(self) -> None:
        self._by_number: dict[int, Taken] = {}
        self._by_worker: dict[WorkerId, dict[str, Taken]] = {}
        self._endpoints: dict[EndpointId, Counter[WorkerId]] = {}

    def __iter__(self) -> Iterator[Taken]:
        return iter(tuple(self._by_number.values()))

    def __contains__(self, number: int) -> bool:
        return number in self._by_number

    def __len__(self) -> int:
        return len(self._by_number)

    def get(self, number: int) -> Taken | None:
        """The job of that task."""
        return self._by_number.get(number)

    def leased(self, lease: str) -> Taken | None:
        """The job of that lease."""
        return next((job for job in self._by_number.values() if job.task.lease == lease), None)

    def of(self, worker: WorkerId) -> tuple[Taken, ...]:
        """What this worker has."""
        return tuple(self._by_worker.get(worker, {}).values())

    def find(self, worker: WorkerId, id: str) -> Taken | None:
        """What this worker calls so."""
        return self._by_worker.get(worker, {}).get(id)

    def held(self, endpoint: EndpointId) -> dict[WorkerId, int]:
        """How many each worker of the endpoint has, or is about to get."""
        return dict(self._endpoints.get(endpoint, {}))

    def reserve(self, endpoint: EndpointId, worker: WorkerId, count: int) -> None:
        """It is about to get so many; with a negative number, not any more."""
        counts = self._endpoints.setdefault(endpoint, Counter())
        counts[worker] += count
        if not counts[worker]:
            del counts[worker]
        if not counts:
            del self._endpoints[endpoint]

    def add(self, job: Taken) -> None:
        """It has it now."""
        self._by_number[job.task.number] = job
        self._by_worker.setdefault(job.worker, {})[job.task.id] = job
        self.reserve(job.task.endpoint, job.worker, 1)

    def remove(self, job: Taken) -> None:
        """It has it no longer."""
        del self._by_number[job.task.number]
        jobs = self._by_worker[job.worker]
        del jobs[job.task.id]
        if not jobs:
            del self._by_worker[job.worker]
        self.reserve(job.task.endpoint, job.worker, -1)

"""Workers that ask for tasks, as their package would act, without any network."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from builders import worker
from queue_halls import Hall, the_endpoint
from simulation.virtual import wall
from stoker.control.change import Change
from stoker.domain.endpoint import Endpoint, EndpointId
from stoker.domain.launch import Launch
from stoker.domain.pulling import Job, JobReport
from stoker.domain.queueing import RetryPolicy
from stoker.domain.worker import Worker, WorkerId, WorkerState

E = EndpointId("e")


LEASE_S = 9.0


OK = JobReport(output=b'{"a":1}')


def pulled(**queue: Any) -> Endpoint:
    values = {"pull": True, "lease_s": LEASE_S, "retries": RetryPolicy(backoff_s=1), **queue}
    made = the_endpoint(**values)
    return replace(made, launches={"default": Launch(engine=None, command=("run",), ping_s=3)})


class Hand:
    """A worker, as its package would act, without any network."""

    def __init__(self, hall: Hall, number: int, slots: int = 1) -> None:
        self.hall, self.id, self.slots = hall, WorkerId(f"w{number}"), slots
        self.number = number

    async def set(self, state: WorkerState, **more: Any) -> None:
        """Its state changes."""
        endpoint = self.hall.fleet.endpoint(E)
        assert endpoint is not None
        known = self.hall.fleet.worker(self.id)
        if known is None:
            new = worker(self.number, state, slots=self.slots, ready_at=wall(), **more)
            await self.hall.fleet.commit(Change(endpoint=endpoint, new_workers=[new]))
        else:
            changed = replace(known, state=state, **more)
            await self.hall.fleet.commit(Change(endpoint=endpoint, workers={self.id: changed}))

    def me(self) -> Worker:
        return self.hall.pulls.worker(E, self.id, f"token of {self.id}")

    async def take(self, wanted: int = 1) -> tuple[Job, ...]:
        return await self.hall.pulls.take(self.me(), wanted)

    async def ping(self, *ids: str) -> None:
        await self.hall.pulls.ping(self.me(), ids)

    async def ping_for(self, seconds: float, *ids: str) -> None:
        ends_at = wall() + seconds
        while wall() < ends_at:
            await self.ping(*ids)
            await asyncio.sleep(min(3.0, ends_at - wall()))

    async def done(self, id: str, report: JobReport = OK) -> bool:
        return await self.hall.pulls.done(self.me(), id, report)


async def ready(hall: Hall, number: int = 1, slots: int = 1) -> Hand:
    made = Hand(hall, number, slots)
    await made.set(WorkerState.READY)
    return made

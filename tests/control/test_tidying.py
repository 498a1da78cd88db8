"""Output of ended workers goes when its endpoint says so, and with its worker and its endpoint."""

from __future__ import annotations

import asyncio

from simulation import virtual
from simulation.virtual import wall
from simulation.world import ADMIN, spec, world
from stoker.domain.logging import Logging
from stoker.domain.worker import WorkerId, WorkerState
from stoker.providers.base import KeptOutput
from stoker.providers.fake import FakeProvider


class Keeping(FakeProvider):
    """A fake that keeps output, as the test says."""

    def __init__(self) -> None:
        super().__init__(clock=wall)
        self.outputs: dict[WorkerId, KeptOutput] = {}

    async def kept(self) -> tuple[KeptOutput, ...]:
        return tuple(self.outputs.values())

    async def discard(self, worker: WorkerId) -> None:
        self.outputs.pop(worker, None)


def test_output_goes_when_it_is_too_old_or_its_endpoint_is_deleted() -> None:
    async def main() -> None:
        provider = Keeping()
        async with world(provider) as w:
            made = await w.create(spec(low=1, logging=Logging(retention_s=1_000)))
            await asyncio.sleep(10)
            [worker] = w.workers(made.id, WorkerState.READY)
            provider.crash(worker.id)
            provider.outputs[worker.id] = KeptOutput(worker.id, 10, wall())
            provider.outputs[WorkerId("forgotten")] = KeptOutput(WorkerId("forgotten"), 10, wall())
            await asyncio.sleep(310)
            assert list(provider.outputs) == [worker.id], "what nobody remembers went"
            await asyncio.sleep(1_000)
            assert provider.outputs == {}, "the old went"
            [worker] = w.workers(made.id, WorkerState.READY)
            provider.outputs[worker.id] = KeptOutput(worker.id, 10, wall())
            await w.stoker.endpoints.delete(ADMIN, made.id)
            await asyncio.sleep(700)
            assert provider.outputs == {}

    virtual.run(main())

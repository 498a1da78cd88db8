"""Triggers in a whole control plane on virtual time: read at their pace, remembered as long as they count."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from simulation import virtual
from simulation.virtual import wall
from simulation.world import ADMIN, World, spec, world
from stoker.control.triggering import Triggering
from stoker.domain.endpoint import Endpoint, EndpointSpec, ScaleBounds
from stoker.domain.hardware import HardwareRequest
from stoker.domain.measurements import GpuLoad, Taken
from stoker.domain.triggers import Rate, Resource, SqsQueue, Triggers
from stoker.domain.worker import WorkerId, WorkerState
from stoker.providers.fake import FakeProvider

QUEUE = SqsQueue(url="u", endpoint="https://sqs.test", region="r", secret="s", messages=10, activation=5)


class Busy(FakeProvider):
    """A fake whose workers take so many processors and so much memory, and are on one card."""

    def __init__(self) -> None:
        super().__init__(clock=wall)
        self.cpus, self.memory_gib, self.card = 0.0, 0.0, 0.0
        self._cpu_s, self._at = 0.0, wall()

    async def measure(self, workers: Mapping[WorkerId, tuple[str, ...]]) -> Mapping[WorkerId, Taken]:
        card = GpuLoad(
            id="0", utilization=self.card, memory_bytes=0, memory_total_bytes=1, memory_utilization=self.card / 2
        )
        self._cpu_s, self._at = self._cpu_s + (wall() - self._at) * self.cpus, wall()
        taken = Taken(cpu_s=self._cpu_s, memory_bytes=int(self.memory_gib * 2**30), gpus=(card,))
        return dict.fromkeys(workers, taken)


def asking(triggers: Triggers, *, idle_timeout_s: float = 3_600) -> EndpointSpec:
    made = spec(low=1, high=5, hardware=HardwareRequest(vcpu=2, ram_gib=4))
    return replace(made, scaling=replace(made.scaling, triggers=triggers, idle_timeout_s=idle_timeout_s))


def present(w: World, endpoint: Endpoint) -> int:
    return len(w.workers(endpoint.id, WorkerState.READY))


def test_workers_that_are_busy_get_others_beside_them_and_lose_them_again() -> None:
    async def main() -> None:
        provider = Busy()
        async with world(provider) as w:
            made = await w.create(asking(Triggers(utilization={Resource.CPU: 0.5}, every_s=5)))
            await asyncio.sleep(10)
            assert present(w, made) == 1
            # Each takes a whole processor of its two, however many there are: what is the target is enough.
            provider.cpus = 1.0
            await asyncio.sleep(40)
            assert present(w, made) == 1
            provider.cpus = 1.9
            await asyncio.sleep(60)
            assert present(w, made) == 5, "up to the maximum"
            [newest, *_] = await w.stoker.services.views.decisions(made.id, limit=1)
            assert "cpu at 95%, 50% wanted" in newest.reason
            provider.cpus = 0.1
            await asyncio.sleep(120)
            assert present(w, made) == 1

    virtual.run(main())


def test_memory_and_cards_count_as_well_and_nothing_counts_for_the_idle() -> None:
    async def main() -> None:
        for resource in (Resource.MEMORY, Resource.GPU_UTILIZATION, Resource.GPU_MEMORY):
            provider = Busy()
            async with world(provider) as w:
                asked = asking(Triggers(utilization={resource: 0.4}, every_s=5), idle_timeout_s=90)
                made = await w.create(asked)
                await asyncio.sleep(5)
                provider.memory_gib, provider.card = 3.0, 1.0
                await asyncio.sleep(45)
                assert present(w, made) > 1, resource
                await asyncio.sleep(150)
                assert present(w, made) == 1, "idle, whatever they take"

    virtual.run(main())


async def queued(w: World, *, every_s: float = 5) -> Endpoint:
    await w.stoker.services.secrets.create(ADMIN, name="s", value="{}")
    made = asking(Triggers(queues=(QUEUE,), every_s=every_s), idle_timeout_s=60)
    return await w.create(replace(made, pools=(replace(made.pools[0], bounds=ScaleBounds(min=0, max=5)),)))


def test_messages_in_a_queue_wake_workers_and_hold_them_for_as_long_as_there_are_any() -> None:
    async def main() -> None:
        async with world() as w:
            w.messages[QUEUE.url] = 4
            made = await queued(w)
            await asyncio.sleep(30)
            assert present(w, made) == 0, "too few to leave zero"
            w.messages[QUEUE.url] = 35
            await asyncio.sleep(15)
            assert present(w, made) == 4
            w.messages[QUEUE.url] = 1
            await asyncio.sleep(200)
            assert present(w, made) == 1, "without a single request"
            w.messages[QUEUE.url] = 0
            await asyncio.sleep(30)
            assert present(w, made) == 1
            await asyncio.sleep(60)
            assert present(w, made) == 0

    virtual.run(main())


def test_a_queue_is_asked_at_the_pace_of_its_endpoint() -> None:
    async def main() -> None:
        async with world() as w:
            w.messages[QUEUE.url] = 0
            made = await queued(w, every_s=120)
            await asyncio.sleep(10)
            w.messages[QUEUE.url] = 10
            await asyncio.sleep(60)
            assert present(w, made) == 0
            await asyncio.sleep(60)
            assert present(w, made) == 1

    virtual.run(main())


def test_a_queue_that_cannot_be_read_asks_for_nothing_and_says_why() -> None:
    async def main() -> None:
        async with world() as w:
            made = await queued(w)
            await asyncio.sleep(10)
            assert present(w, made) == 0
            assert w.stoker.services.views.endpoint(made).trouble == "a queue cannot be read: no queue u"
            w.messages[QUEUE.url] = 1
            await asyncio.sleep(10)
            assert w.stoker.services.views.endpoint(made).trouble is None

    virtual.run(main())


def test_requests_are_counted_over_their_window_and_from_the_beginning_with_another_gateway() -> None:
    async def main() -> None:
        async with world() as w:
            made = await w.create(asking(Triggers(rate=Rate(requests=2, window_s=60), every_s=5)))
            seen: list[int | None] = [None]
            # Beside the one of this control plane, which counts what its gateway reports.
            found = Triggering(
                w.stoker.fleet,
                resources=lambda _: None,
                arrivals=lambda _: seen[0],
                messages=w.count_messages,
                clock=wall,
            )

            async def after(arrivals: int | None) -> int:
                seen[0] = arrivals
                await asyncio.sleep(30)
                await found.step()
                asked = found.of(made.id)
                assert asked is not None
                return asked.workers

            assert await after(100) == 0, "nobody knows since when"
            assert await after(104) == 2
            assert await after(108) == 4
            assert await after(108) == 2
            assert await after(108) == 0
            assert await after(3) == 0, "another one counts"
            assert await after(5) == 1
            assert await after(None) == 1, "silence is not zero"

    virtual.run(main())

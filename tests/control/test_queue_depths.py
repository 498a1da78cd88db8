"""Queues elsewhere in a whole control plane on virtual time: asked at their pace, remembered as long as they count."""

from __future__ import annotations

import asyncio

from msgspec import structs

from simulation import virtual
from simulation.world import ADMIN, World, spec, world
from stoker.domain.endpoint import Endpoint
from stoker.domain.scaling import Concurrency, ScalingPolicy, SqsQueue
from stoker.domain.worker import WorkerState

QUEUE = SqsQueue(url="u", endpoint="https://sqs.test", region="r", secret="s", messages=10, activation=5)


def present(w: World, endpoint: Endpoint) -> int:
    return len(w.workers(endpoint.id, WorkerState.READY))


async def queued(w: World, *, every_s: float = 5) -> Endpoint:
    await w.stoker.services.secrets.create(ADMIN, name="s", value="{}")
    queue = structs.replace(QUEUE, every_s=every_s)
    scaling = ScalingPolicy(triggers=(Concurrency(), queue), idle_timeout_s=60, scale_down_delay_s=10)
    return await w.create(spec(high=5, scaling=scaling))


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

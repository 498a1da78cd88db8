"""Workers that are kept cold, on virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from simulation import virtual
from simulation.world import ADMIN, spec, world
from stoker.domain.endpoint import PoolSpec, ScaleBounds
from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.hardware import HardwareRequest, Offer, PortRange
from stoker.domain.operation import OperationState
from stoker.domain.worker import WorkerState
from stoker.policy.state import condition_of
from stoker.providers.fake import FakeProvider

S = WorkerState


def cold_pool(*, cold: int = 1, high: int = 2) -> tuple[PoolSpec, ...]:
    return (PoolSpec(provider="fake", bounds=ScaleBounds(max=high, cold=cold)),)


def test_a_pool_keeps_its_floor_of_workers_cold_and_a_request_warms_one() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(replace(spec(), pools=cold_pool()))
            await asyncio.sleep(20)
            [idle] = w.workers(endpoint.id)
            assert (idle.state, w.provider.workers[idle.id].paused) == (S.COLD, True)
            assert condition_of(endpoint, [idle]).state == "idle"
            request = w.gateway.request(endpoint.id, 1.0)
            await request.ended.wait()
            assert (request.outcome, w.provider.starts) == ("done", [idle.id])
            await asyncio.sleep(120)
            [again] = w.workers(endpoint.id)
            assert (again.id, again.state, again.from_cold) == (idle.id, S.COLD, True)
            _, operation = await w.stoker.endpoints.delete(ADMIN, endpoint.id)
            await asyncio.sleep(20)
            assert w.provider.workers == {}
            assert (await w.operation(operation)).state is OperationState.SUCCESS

    virtual.run(main())


def test_a_worker_that_somebody_else_pauses_is_replaced() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=1, high=1))
            await asyncio.sleep(20)
            [held] = w.workers(endpoint.id, S.READY)
            w.provider.workers[held.id].paused = True
            await asyncio.sleep(20)
            [new] = w.workers(endpoint.id)
            assert (new.state, new.id == held.id) == (S.READY, False)

    virtual.run(main())


def test_a_list_that_still_shows_how_it_was_cold_does_not_end_a_warm_worker() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(replace(spec(), pools=cold_pool()))
            await asyncio.sleep(20)
            [idle] = w.workers(endpoint.id, S.COLD)
            w.provider.list_error = Unavailable("busy")
            request = w.gateway.request(endpoint.id, 5.0)
            await asyncio.sleep(3)
            assert [one.id for one in w.workers(endpoint.id, S.READY)] == [idle.id]
            await request.ended.wait()
            assert request.outcome == "done"

    virtual.run(main())


def test_a_cold_worker_is_still_cold_after_a_restart_of_control() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(replace(spec(), pools=cold_pool()))
            await asyncio.sleep(20)
            [idle] = w.workers(endpoint.id)
            await w.crash()
            w.provider.workers[idle.id].paused = False
            await w.boot()
            await asyncio.sleep(5)
            assert w.workers(endpoint.id) == [idle]
            assert w.provider.workers[idle.id].paused

    virtual.run(main())


def test_a_cold_worker_that_cannot_have_its_cpu_back_stays_cold_and_says_so() -> None:
    async def main() -> None:
        host = Offer(host="h", vcpu=2, ram_gib=8, ports=PortRange(20_000, 20_100))
        async with world(FakeProvider(clock=virtual.wall, offers=(host,))) as w:
            cpu = HardwareRequest(vcpu=2)
            pool = PoolSpec(provider="fake", hardware=cpu, bounds=ScaleBounds(max=1, cold=1))
            sleeper = await w.create(replace(spec("a"), pools=(pool,)))
            await asyncio.sleep(20)
            other = await w.create(spec("b", low=1, hardware=cpu))
            await asyncio.sleep(10)
            assert len(w.workers(other.id, S.READY)) == 1, "what the cold one let go of is there for others"
            w.gateway.request(sleeper.id, 1.0)
            await asyncio.sleep(5)
            [idle] = w.workers(sleeper.id)
            assert (idle.state, "2 vCPU" in idle.reason) == (S.COLD, True)

    virtual.run(main())


def test_a_floor_of_cold_workers_is_refused_where_nothing_can_keep_them() -> None:
    async def main() -> None:
        async with world() as w:
            w.provider.pauses = False
            with pytest.raises(Invalid) as refused:
                await w.create(replace(spec(), pools=cold_pool()))
            assert refused.value.problems[0].pointer == "/pools/0/bounds/cold"

    virtual.run(main())

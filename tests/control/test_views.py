"""What may be looked at, by whom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from simulation import virtual
from simulation.world import ADMIN, World, spec, world
from stoker.domain.access import Scope
from stoker.domain.endpoint import ProjectId
from stoker.domain.errors import NotFound
from stoker.domain.hardware import HardwareRequest
from stoker.domain.operation import OperationState
from stoker.domain.worker import WorkerState

STRANGER = replace(ADMIN, project=ProjectId(2))


def run(body: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with world() as made:
            await body(made)

    virtual.run(main())


def test_nothing_of_another_project_exists() -> None:
    async def body(w: World) -> None:
        views = w.stoker.services.views
        endpoint, operation = await w.stoker.endpoints.create(ADMIN, spec(low=1))
        await asyncio.sleep(10)
        [worker] = w.workers(endpoint.id)
        for reference in (endpoint.id, endpoint.slug, str(endpoint.number), endpoint.spec.name):
            with pytest.raises(NotFound):
                await views.find(reference, STRANGER)
        with pytest.raises(NotFound):
            await views.worker(worker.id, STRANGER)
        with pytest.raises(NotFound):
            await views.operation(operation.id, STRANGER, wait_s=0)
        assert await views.page(STRANGER, after=0, limit=10) == ((), None)
        assert views.live_workers(STRANGER) == ()
        assert await w.stoker.keys.page(STRANGER, after=0, limit=10) == ((), None)

    run(body)


def test_a_caller_who_may_not_read_finds_nothing() -> None:
    async def body(w: World) -> None:
        endpoint = await w.create(spec())
        caller = replace(ADMIN, scopes=frozenset({Scope.INVOKE}))
        with pytest.raises(NotFound):
            await w.stoker.services.views.find(endpoint.id, caller)

    run(body)


def test_an_endpoint_shows_its_traffic_as_long_as_the_gateway_is_there() -> None:
    async def body(w: World) -> None:
        endpoint = await w.create(spec(low=1))
        await asyncio.sleep(10)
        w.gateway.request(endpoint.id, 30.0)
        w.gateway.request(endpoint.id, 30.0)
        await asyncio.sleep(1)
        view = w.stoker.services.views.endpoint(endpoint)
        assert view.traffic is not None
        assert (view.traffic.in_flight, view.traffic.waiting, view.traffic.arrivals) == (1, 1, 2)
        [shown, *_] = w.stoker.services.views.live_workers(ADMIN)
        assert shown.in_flight == 1
        await w.gateway.close()
        assert w.stoker.services.views.endpoint(endpoint).traffic is None
        assert w.stoker.services.views.live_workers(ADMIN)[0].in_flight is None, "unknown, which is not zero"

    run(body)


def test_an_operation_that_is_waited_for_ends_once_its_endpoint_is_deleted() -> None:
    async def body(w: World) -> None:
        w.load_s = 1_000
        endpoint, operation = await w.stoker.endpoints.create(ADMIN, spec(low=1))
        views = w.stoker.services.views
        waiting = asyncio.create_task(views.operation(operation.id, ADMIN, wait_s=60))
        await asyncio.sleep(5)
        _, deletion = await w.stoker.endpoints.delete(ADMIN, endpoint.id)
        assert (await waiting).state is OperationState.FAILURE
        assert (await views.operation(deletion.id, ADMIN, wait_s=60)).state is OperationState.SUCCESS

    run(body)


def test_an_operation_ends_when_what_it_wanted_is_no_longer_wanted() -> None:
    async def body(w: World) -> None:
        w.load_s = 50
        endpoint, first = await w.stoker.endpoints.create(ADMIN, spec(low=0, high=9))
        _, more = await w.stoker.endpoints.scale(ADMIN, endpoint.id, 5)
        await asyncio.sleep(1)
        _, fewer = await w.stoker.endpoints.scale(ADMIN, endpoint.id, 1)
        await asyncio.sleep(1)
        assert (await w.operation(first)).state is OperationState.SUCCESS
        overtaken = await w.operation(more)
        assert (overtaken.state, "overtaken" in overtaken.message) == (OperationState.FAILURE, True)
        _, most = await w.stoker.endpoints.scale(ADMIN, endpoint.id, 3)
        await asyncio.sleep(1)
        assert (await w.operation(fewer)).state is OperationState.FAILURE
        await asyncio.sleep(100)
        assert (await w.operation(most)).state is OperationState.SUCCESS

    run(body)


def test_an_operation_with_a_number_for_a_time_ends_with_that_time() -> None:
    async def body(w: World) -> None:
        w.load_s = 100
        endpoint = await w.create(spec())
        _, operation = await w.stoker.endpoints.scale(ADMIN, endpoint.id, 2, for_s=20)
        await asyncio.sleep(15)
        assert (await w.operation(operation)).state is OperationState.PENDING
        await asyncio.sleep(60)
        assert (await w.operation(operation)).state is OperationState.FAILURE
        assert w.workers(endpoint.id) == []

    run(body)


def test_hosts_show_what_workers_hold() -> None:
    async def body(w: World) -> None:
        await w.create(spec(low=2, hardware=HardwareRequest(vcpu=1.5, ram_gib=4)))
        await asyncio.sleep(10)
        [host] = w.stoker.services.views.hosts(ADMIN, HardwareRequest())
        assert (host.vcpu_used, host.ram_gib_used, host.workers) == (3.0, 8.0, 2)

    run(body)


def test_workers_that_ended_are_shown_with_why() -> None:
    async def body(w: World) -> None:
        endpoint = await w.create(spec(low=1))
        await asyncio.sleep(10)
        [worker] = w.workers(endpoint.id)
        w.provider.crash(worker.id, code=9)
        await asyncio.sleep(200)
        newest, oldest = await w.stoker.services.views.workers(endpoint)
        assert (newest.worker.state, oldest.worker.state) == (WorkerState.READY, WorkerState.FAILED)
        assert "code 9" in oldest.worker.reason

    run(body)


def test_a_stopped_endpoint_costs_no_passes() -> None:
    async def body(w: World) -> None:
        endpoint = await w.create(spec(low=1))
        await asyncio.sleep(10)
        await w.stoker.endpoints.stop(ADMIN, endpoint.id)
        await asyncio.sleep(100)
        passes = 0
        reconcile = w.stoker.reconciler.reconcile

        async def counted(which: object) -> None:
            nonlocal passes
            passes += 1
            await reconcile(which)  # type: ignore[arg-type]

        w.stoker.reconciler.reconcile = counted  # type: ignore[method-assign,assignment]
        await asyncio.sleep(100)
        assert passes == 0

    run(body)

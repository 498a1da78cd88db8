"""Updates on virtual time: which workers are replaced, in which order, and what is cut by it (nothing)."""

from __future__ import annotations

import asyncio

from simulation import virtual
from simulation.situations import decided, one_card
from simulation.world import ADMIN, spec, world
from stoker.domain.endpoint import Rollout, Strategy
from stoker.domain.errors import Unavailable
from stoker.domain.hardware import HardwareRequest
from stoker.domain.operation import OperationState
from stoker.domain.probe import Probe, Probes
from stoker.domain.worker import WorkerState

S = WorkerState


def test_an_update_replaces_workers_one_after_the_other_and_cuts_nothing() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=2))
            await asyncio.sleep(10)
            busy = w.gateway.request(endpoint.id, 60.0)
            old = {worker.id for worker in w.workers(endpoint.id)}
            _, operation = await w.stoker.endpoints.update(ADMIN, endpoint.id, spec(low=2, command="serve2"))
            assert operation is not None
            fewest = 9
            for _ in range(400):
                await asyncio.sleep(0.1)
                fewest = min(fewest, len(w.workers(endpoint.id, S.READY)))
            assert fewest >= 2, "at no moment were fewer ready than wanted"
            await busy.ended.wait()
            await asyncio.sleep(5)
            assert busy.outcome == "done"
            assert not old & {worker.id for worker in w.workers(endpoint.id)}
            assert (await w.operation(operation)).state is OperationState.SUCCESS

    virtual.run(main())


def test_an_update_of_bounds_alone_keeps_the_workers() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=1))
            await asyncio.sleep(10)
            before = {worker.id for worker in w.workers(endpoint.id)}
            await w.stoker.endpoints.update(ADMIN, endpoint.id, spec(low=2))
            await asyncio.sleep(10)
            after = {worker.id for worker in w.workers(endpoint.id)}
            assert before < after
            same, operation = await w.stoker.endpoints.update(ADMIN, endpoint.id, spec(low=2))
            assert operation is None
            assert (same.revision, same.launched) == (2, 1)

    virtual.run(main())


def test_an_update_on_a_full_machine_drains_the_old_worker_first() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            gpu = HardwareRequest(gpu_count=1)
            endpoint = await w.create(spec(low=1, hardware=gpu))
            await asyncio.sleep(10)
            await w.stoker.endpoints.update(ADMIN, endpoint.id, spec(low=1, hardware=gpu, command="serve2"))
            await asyncio.sleep(20)
            [worker] = w.workers(endpoint.id)
            assert (worker.state, worker.revision) == (S.READY, 2)
            assert any("worker 1 is drained first" in reason for reason in await decided(w, endpoint))

    virtual.run(main())


def test_an_update_on_a_full_machine_that_is_to_wait_for_room_waits_for_it() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            gpu = HardwareRequest(gpu_count=1)
            rollout = Rollout(strategy=Strategy.SURGE)
            endpoint = await w.create(spec(low=1, hardware=gpu, rollout=rollout))
            await asyncio.sleep(10)
            changed = spec(low=1, hardware=gpu, command="serve2", rollout=rollout)
            await w.stoker.endpoints.update(ADMIN, endpoint.id, changed)
            await asyncio.sleep(100)
            assert {(x.state, x.revision) for x in w.workers(endpoint.id)} == {(S.READY, 1), (S.PENDING, 2)}

    virtual.run(main())


def test_an_update_by_recreation_never_runs_two_revisions_at_once_and_loses_no_request() -> None:
    async def main() -> None:
        async with world() as w:
            rollout = Rollout(strategy=Strategy.RECREATE)
            endpoint = await w.create(spec(low=2, high=4, rollout=rollout))
            await asyncio.sleep(10)
            running = w.gateway.request(endpoint.id, 20.0)
            await asyncio.sleep(1)
            changed = spec(low=2, high=4, command="serve2", rollout=rollout)
            await w.stoker.endpoints.update(ADMIN, endpoint.id, changed)
            await asyncio.sleep(1)
            waiting = w.gateway.request(endpoint.id, 1.0)
            for _ in range(40):
                await asyncio.sleep(1)
                assert len({x.revision for x in w.workers(endpoint.id)}) <= 1
            assert (running.outcome, waiting.outcome) == ("done", "done")
            assert [(x.state, x.revision) for x in w.workers(endpoint.id)] == [(S.READY, 2)] * 2

    virtual.run(main())


def test_workers_of_an_old_revision_are_probed_as_their_own_revision_says() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            endpoint = await w.create(spec(low=1, hardware=HardwareRequest(gpu_count=1)))
            await asyncio.sleep(10)
            [old] = w.workers(endpoint.id, S.READY)
            w.provider.start_error = Unavailable("not now")
            slow = Probes(liveness=Probe(period_s=60))
            await w.stoker.endpoints.update(ADMIN, endpoint.id, spec(low=1, command="other", probes=slow))
            assert old.address is not None
            w.sick.add(old.address.port)
            await asyncio.sleep(12)
            assert old.id not in {worker.id for worker in w.workers(endpoint.id, S.READY)}

    virtual.run(main())


def test_going_back_in_the_middle_of_an_update_keeps_the_workers_that_were_not_replaced() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=3))
            await asyncio.sleep(10)
            before = {worker.id for worker in w.workers(endpoint.id, S.READY)}
            w.provider.exit_code = 1
            await w.stoker.endpoints.update(ADMIN, endpoint.id, spec(low=3, command="broken"))
            await asyncio.sleep(10)
            w.provider.exit_code = None
            back, operation = await w.stoker.endpoints.rollback(ADMIN, endpoint.id)
            assert (back.revision, back.spec, back.alike) == (3, endpoint.spec, {"default": (1, 3)})
            await asyncio.sleep(5)
            assert {worker.id for worker in w.workers(endpoint.id)} == before
            assert (await w.operation(operation)).state is OperationState.SUCCESS

    virtual.run(main())


def test_what_old_workers_run_is_remembered_over_a_restart_of_control() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            endpoint = await w.create(spec(low=1, hardware=HardwareRequest(gpu_count=1)))
            await asyncio.sleep(10)
            w.provider.start_error = Unavailable("not now")
            await w.stoker.endpoints.update(ADMIN, endpoint.id, spec(low=1, command="other"))
            await asyncio.sleep(1)
            await w.crash()
            await w.boot()
            [old] = [worker for worker in w.workers(endpoint.id) if worker.revision == 1]
            known = w.stoker.fleet.revision_of(old)
            assert known is not None
            assert known.launches["default"].command == ("serve",)

    virtual.run(main())

"""Workers that fail, on virtual time: what becomes of them and of the requests that wait."""

from __future__ import annotations

import asyncio

from simulation import virtual
from simulation.situations import until
from simulation.world import ADMIN, spec, world
from stoker.domain.operation import OperationState
from stoker.domain.probe import Probe, Probes
from stoker.domain.worker import WorkerState
from stoker.policy.state import condition_of

S = WorkerState


def test_a_crashed_worker_is_replaced_and_waiting_requests_go_to_the_new_one() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=1, high=1))
            await asyncio.sleep(30)
            running = w.gateway.request(endpoint.id, 10.0)
            waiting = w.gateway.request(endpoint.id, 1.0)
            [worker] = w.workers(endpoint.id)
            w.provider.crash(worker.id, code=137)
            w.gateway.cut(worker.id)
            await waiting.ended.wait()
            assert (running.outcome, waiting.outcome) == ("cut", "done")
            [new] = w.workers(endpoint.id)
            assert new.id != worker.id
            assert await w.events(endpoint.id) != []

    virtual.run(main())


def test_a_worker_that_its_host_will_end_is_drained_and_replaced_before_that() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=1, high=1))
            await asyncio.sleep(30)
            running = w.gateway.request(endpoint.id, 20.0)
            [worker] = w.workers(endpoint.id)
            w.provider.leave(worker.id, "evicted")
            await asyncio.sleep(10)
            [draining] = w.workers(endpoint.id, S.DRAINING)
            assert (draining.id, draining.reason) == (worker.id, "evicted")
            [new] = w.workers(endpoint.id, S.READY)
            later = w.gateway.request(endpoint.id, 1.0)
            await later.ended.wait()
            await running.ended.wait()
            assert (running.outcome, later.outcome) == ("done", "done")
            await asyncio.sleep(30)
            assert [one.id for one in w.workers(endpoint.id)] == [new.id]

    virtual.run(main())


def test_a_command_that_exits_at_once_backs_off_says_why_and_refuses_requests() -> None:
    async def main() -> None:
        async with world() as w:
            w.provider.exit_code = 3
            endpoint, operation = await w.stoker.endpoints.create(ADMIN, spec(low=1))
            await asyncio.sleep(300)
            assert 6 <= len(w.provider.starts) <= 10, "exponential back-off"
            ended = await w.operation(operation)
            assert ended.state is OperationState.FAILURE
            assert "exited with code 3" in ended.message
            now = w.stoker.fleet.endpoint(endpoint.id)
            assert now is not None
            assert condition_of(now, w.workers(endpoint.id)).state == "failing"
            entry = w.gateway.entry(endpoint.id)
            assert entry is not None
            assert entry.refusal == "start_failed"
            assert (entry.retry_after_s or 0) > 0
            w.provider.exit_code = None
            await asyncio.sleep(300)
            assert len(w.workers(endpoint.id, S.READY)) == 1, "it recovers by itself"

    virtual.run(main())


def test_the_last_output_of_a_failed_worker_is_in_its_reason() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=1))
            await until(lambda: bool(w.provider.workers))
            [worker] = list(w.provider.workers)
            w.provider.say(worker, "no such model file")
            w.provider.crash(worker, code=2)
            await asyncio.sleep(2)
            now = w.stoker.fleet.endpoint(endpoint.id)
            assert now is not None
            assert "no such model file" in now.failures["default"].last_reason

    virtual.run(main())


def test_a_worker_whose_probe_fails_is_drained_and_replaced() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=1))
            await asyncio.sleep(30)
            [worker] = w.workers(endpoint.id)
            assert worker.address is not None
            w.sick.add(worker.address.port)
            await asyncio.sleep(30)
            [new] = w.workers(endpoint.id)
            assert (new.state, new.id != worker.id) == (S.READY, True)

    virtual.run(main())


def test_a_worker_whose_readiness_fails_gets_no_new_requests_until_it_is_back() -> None:
    async def main() -> None:
        async with world() as w:
            often = Probe(period_s=1, failures_max=2)
            never = Probe(period_s=3600)
            endpoint = await w.create(spec(low=1, high=1, probes=Probes(readiness=often, liveness=never)))
            await asyncio.sleep(10)
            [one] = w.workers(endpoint.id, S.READY)
            assert one.address is not None
            w.sick.add(one.address.port)
            await asyncio.sleep(5)
            request = w.gateway.request(endpoint.id, 1.0)
            await asyncio.sleep(5)
            [same] = w.workers(endpoint.id, S.READY)
            assert (same.id, same.unready, request.outcome) == (one.id, "HTTP 500", None)
            assert "not ready: HTTP 500" in condition_of(endpoint, [same]).reason
            w.sick.clear()
            await asyncio.sleep(5)
            assert request.outcome == "done"

    virtual.run(main())


def test_a_worker_that_got_no_requests_anyway_is_drained_at_once() -> None:
    async def main() -> None:
        async with world() as w:
            probes = Probes(readiness=Probe(period_s=1, failures_max=2), liveness=Probe(period_s=3600))
            endpoint = await w.create(spec(low=1, high=1, probes=probes))
            await asyncio.sleep(10)
            [one] = w.workers(endpoint.id, S.READY)
            assert one.address is not None
            w.sick.add(one.address.port)
            await asyncio.sleep(5)
            # The table has said before that it is to get none.
            await w.stoker.endpoints.stop(ADMIN, endpoint.id)
            await asyncio.sleep(15)
            assert w.workers(endpoint.id) == []

    virtual.run(main())

"""Endpoints of several pools on virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from simulation import virtual
from simulation.situations import one_card
from simulation.virtual import wall
from simulation.world import ADMIN, spec, world
from stoker.domain.endpoint import PoolSpec, ScaleBounds
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import LaunchSpec
from stoker.domain.operation import OperationState
from stoker.domain.worker import WorkerState
from stoker.policy.backoff import FAILURES_BEFORE_REFUSAL
from stoker.policy.state import condition_of
from stoker.providers.fake import FakeProvider

S = WorkerState


def two_pools() -> tuple[PoolSpec, ...]:
    card = HardwareRequest(gpu_count=1)
    return (
        PoolSpec(name="cards", provider="fake", hardware=card, bounds=ScaleBounds(max=2)),
        PoolSpec(name="plain", provider="fake", bounds=ScaleBounds(min=1, max=3)),
    )


def test_a_worker_that_does_not_fit_into_one_pool_goes_to_the_next() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            endpoint = await w.create(replace(spec(), pools=two_pools()))
            await w.stoker.endpoints.scale(ADMIN, endpoint.id, 3)
            await asyncio.sleep(20)
            assert sorted(worker.pool for worker in w.workers(endpoint.id, S.READY)) == ["cards", "plain", "plain"]

    virtual.run(main())


def test_a_pool_on_a_broken_provider_keeps_no_other_from_starting() -> None:
    async def main() -> None:
        good, bad = FakeProvider(clock=wall), FakeProvider(clock=wall)
        bad.exit_code = 1
        async with world(good, others={"bad": bad}) as w:
            pools = (
                PoolSpec(name="first", provider="bad", bounds=ScaleBounds(min=1, max=2)),
                PoolSpec(name="second", provider="fake", bounds=ScaleBounds(max=2)),
            )
            endpoint = await w.create(replace(spec(), pools=pools))
            await asyncio.sleep(10)
            for _ in range(200):
                entry = w.gateway.entry(endpoint.id)
                assert entry is not None
                assert entry.refusal is None, "one pool serves"
                requests = [w.gateway.request(endpoint.id, 1) for _ in range(2)]
                await asyncio.sleep(3)
                assert {request.outcome for request in requests} <= {"done", None}
            assert {worker.pool for worker in w.workers(endpoint.id, S.READY)} == {"second"}
            now = w.stoker.fleet.endpoint(endpoint.id)
            assert now is not None
            assert now.failures["first"].count > FAILURES_BEFORE_REFUSAL
            assert "second" not in now.failures
            assert condition_of(now, w.workers(endpoint.id)).state == "ready"
            assert len(bad.starts) < 20, "it is tried again with growing pauses"
            bad.exit_code = None
            await asyncio.sleep(310)
            assert {worker.pool for worker in w.workers(endpoint.id, S.READY)} >= {"first"}, "it recovers by itself"

    virtual.run(main())


def test_an_endpoint_is_refused_when_no_pool_starts() -> None:
    async def main() -> None:
        one, two = FakeProvider(clock=wall), FakeProvider(clock=wall)
        one.exit_code, two.exit_code = 1, 2
        async with world(one, others={"two": two}) as w:
            pools = tuple(
                PoolSpec(name=name, provider=name, bounds=ScaleBounds(min=low, max=1))
                for name, low in (("fake", 1), ("two", 0))
            )
            endpoint = await w.create(replace(spec(), pools=pools))

            def refusal() -> str | None:
                entry = w.gateway.entry(endpoint.id)
                return None if entry is None else entry.refusal

            for _ in range(100):
                if refusal() == "start_failed":
                    break
                await asyncio.sleep(1)
            assert refusal() == "start_failed"
            now = w.stoker.fleet.endpoint(endpoint.id)
            assert now is not None
            assert set(now.failures) == {"fake", "two"}, "each was tried before the endpoint was given up"

    virtual.run(main())


def test_a_pool_that_is_added_or_taken_away_leaves_the_others_alone() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            cards, plain = two_pools()
            endpoint = await w.create(replace(spec(), pools=(plain,)))
            await asyncio.sleep(10)
            before = {worker.id for worker in w.workers(endpoint.id, S.READY)}
            both = replace(spec(), pools=(plain, replace(cards, bounds=ScaleBounds(min=1, max=1))))
            changed, _ = await w.stoker.endpoints.update(ADMIN, endpoint.id, both)
            assert (changed.revision, changed.alike) == (2, {"plain": (1, 2), "cards": (2,)})
            await asyncio.sleep(10)
            assert {worker.pool: worker.id in before for worker in w.workers(endpoint.id, S.READY)} == {
                "plain": True,
                "cards": False,
            }
            _, operation = await w.stoker.endpoints.update(ADMIN, endpoint.id, replace(spec(), pools=(plain,)))
            assert operation is not None
            await asyncio.sleep(10)
            assert {worker.id for worker in w.workers(endpoint.id)} == before
            assert (await w.operation(operation)).state is OperationState.SUCCESS

    virtual.run(main())


def test_a_pool_that_runs_something_else_is_replaced_alone_when_that_changes() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            one = PoolSpec(name="one", provider="fake", bounds=ScaleBounds(min=1, max=1))
            other = replace(one, name="other", launch=LaunchSpec(command=("other",)), slots=3)
            endpoint = await w.create(replace(spec(), pools=(one, other)))
            await asyncio.sleep(10)
            before = {worker.pool: worker for worker in w.workers(endpoint.id, S.READY)}
            assert {name: worker.slots for name, worker in before.items()} == {"one": 1, "other": 3}
            runs = {name: w.provider.workers[worker.id].spec.command for name, worker in before.items()}
            assert runs == {"one": ("serve",), "other": ("other",)}
            changed = replace(other, launch=LaunchSpec(command=("newer",)))
            await w.stoker.endpoints.update(ADMIN, endpoint.id, replace(spec(), pools=(one, changed)))
            await asyncio.sleep(20)
            after = {worker.pool: worker for worker in w.workers(endpoint.id, S.READY)}
            assert after["one"].id == before["one"].id
            assert w.provider.workers[after["other"].id].spec.command == ("newer",)

    virtual.run(main())

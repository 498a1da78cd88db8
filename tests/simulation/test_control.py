"""Control as a whole, on virtual time: demand, draining, restarts, and what holds whatever dies or lags."""

from __future__ import annotations

import asyncio

import pytest

from simulation import virtual
from simulation.situations import until
from simulation.world import ADMIN, spec, world
from stoker.domain.endpoint import Endpoint, Phase, Rollout
from stoker.domain.errors import Conflict, NotFound, Unavailable
from stoker.domain.operation import OperationState
from stoker.domain.worker import WorkerState
from stoker.providers.fake import FakeProvider

S = WorkerState


def test_the_first_waiting_request_starts_a_worker_with_no_tick_in_between() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec())
            await asyncio.sleep(100.1)
            before = asyncio.get_running_loop().time()
            request = w.gateway.request(endpoint.id, 1.0)
            await until(lambda: bool(w.provider.starts))
            assert asyncio.get_running_loop().time() == before, "no timer ran between the request and the start"
            await request.ended.wait()
            assert request.outcome == "done"
            assert asyncio.get_running_loop().time() - before < w.load_s + 1.0 + 0.6

    virtual.run(main())


def test_an_endpoint_goes_from_zero_to_its_maximum_and_back_without_losing_a_request() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(high=3, slots=2))
            requests = [w.gateway.request(endpoint.id, 5.0) for _ in range(12)]
            await asyncio.sleep(4)
            assert len(w.workers(endpoint.id, S.READY)) == 3
            await asyncio.gather(*(r.ended.wait() for r in requests))
            assert {r.outcome for r in requests} == {"done"}
            await asyncio.sleep(60)
            assert w.workers(endpoint.id) == []
            assert w.provider.workers == {}
            assert len(w.provider.starts) == 3

    virtual.run(main())


def test_creating_answers_only_when_the_gateway_knows_the_endpoint() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec())
            assert w.gateway.entry(endpoint.id) is not None

    virtual.run(main())


def test_a_worker_is_not_stopped_with_a_request_on_it_within_the_limit() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=1))
            await asyncio.sleep(5)
            request = w.gateway.request(endpoint.id, 200.0)
            await asyncio.sleep(1)
            await w.stoker.endpoints.stop(ADMIN, endpoint.id)
            await asyncio.sleep(190)
            assert request.outcome is None
            assert w.provider.stops == []
            await request.ended.wait()
            await asyncio.sleep(3)
            assert request.outcome == "done"
            assert w.provider.workers == {}

    virtual.run(main())


def test_a_request_that_outlives_the_drain_limit_does_not_hold_its_worker_for_ever() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=1, rollout=Rollout(drain_timeout_s=20)))
            await asyncio.sleep(5)
            w.gateway.request(endpoint.id, 5_000.0)
            await asyncio.sleep(1)
            await w.stoker.endpoints.stop(ADMIN, endpoint.id)
            await asyncio.sleep(18)
            assert w.provider.stops == []
            await asyncio.sleep(5)
            assert w.provider.workers == {}

    virtual.run(main())


def test_a_silent_gateway_is_no_confirmation_and_no_idle_signal() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=0))
            w.gateway.request(endpoint.id, 1.0)
            await asyncio.sleep(5)
            assert len(w.workers(endpoint.id, S.READY)) == 1
            w.gateway.silent = True
            await asyncio.sleep(1_000)
            assert len(w.workers(endpoint.id, S.READY)) == 1, "nothing is scaled down on silence"
            await w.stoker.endpoints.stop(ADMIN, endpoint.id)
            await asyncio.sleep(250)
            assert w.provider.stops == [], "a drain is not confirmed by silence"
            await asyncio.sleep(100)
            assert w.provider.workers == {}, "but its time ends"

    virtual.run(main())


@pytest.mark.parametrize("moment_s", [0.0, 0.001, 1.0, 2.5, 10.0])
def test_control_may_die_at_any_moment_and_finds_its_workers_again(moment_s: float) -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=2))
            await asyncio.sleep(moment_s)
            running = set(w.provider.workers)
            await w.crash()
            await asyncio.sleep(3)
            await w.boot()
            await asyncio.sleep(20)
            assert len(w.workers(endpoint.id, S.READY)) == 2
            assert len(w.provider.workers) == 2, "none is orphaned and none is started twice"
            assert running <= set(w.provider.workers)

    virtual.run(main())


def test_workers_that_nobody_remembers_are_ended() -> None:
    async def main() -> None:
        provider = FakeProvider(clock=virtual.wall)
        async with world(provider) as first:
            await first.create(spec(low=2))
            await asyncio.sleep(10)
        assert len(provider.workers) == 2
        async with world(provider) as _another_installation_on_the_same_machines:
            await asyncio.sleep(5)
            assert provider.workers == {}

    virtual.run(main())


def test_a_lagging_list_loses_no_worker_and_a_broken_one_proves_nothing() -> None:
    async def main() -> None:
        async with world() as w:
            w.provider.list_error = Unavailable("the daemon is away")
            endpoint = await w.create(spec(low=2))
            await asyncio.sleep(100)
            assert len(w.workers(endpoint.id)) == 2
            w.provider.list_error = None
            await asyncio.sleep(5)
            assert len(w.workers(endpoint.id, S.READY)) == 2
            [vanished, _] = w.workers(endpoint.id)
            w.provider.vanish(vanished.id)
            await asyncio.sleep(10)
            assert len(w.workers(endpoint.id, S.READY)) == 2
            assert len(w.provider.starts) == 3

    virtual.run(main())


def test_a_taken_name_is_refused_and_like_names_get_slugs_of_their_own() -> None:
    async def main() -> None:
        async with world() as w:
            first = await w.create(spec("My Chat"))
            with pytest.raises(Conflict, match="taken"):
                await w.create(spec("My Chat"))
            made = await asyncio.gather(*(w.create(spec(f"my-chat{'!' * i}")) for i in range(1, 6)))
            slugs = {first.slug, *(endpoint.slug for endpoint in made)}
            assert first.slug == "my-chat"
            assert len(slugs) == 6

    virtual.run(main())


def test_a_number_set_by_hand_holds_and_ends() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(high=2))
            _, operation = await w.stoker.endpoints.scale(ADMIN, endpoint.id, 3, for_s=100)
            await asyncio.sleep(10)
            assert len(w.workers(endpoint.id, S.READY)) == 3
            assert (await w.operation(operation)).state is OperationState.SUCCESS
            await asyncio.sleep(150)
            assert w.workers(endpoint.id) == []

    virtual.run(main())


def test_deleting_drains_and_then_forgets() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=1))
            await asyncio.sleep(10)
            request = w.gateway.request(endpoint.id, 20.0)
            _, operation = await w.stoker.endpoints.delete(ADMIN, endpoint.id)
            refused = w.gateway.request(endpoint.id, 1.0)
            assert refused.outcome == "refused"
            await request.ended.wait()
            await asyncio.sleep(5)
            assert request.outcome == "done"
            assert w.gateway.entry(endpoint.id) is None
            assert (await w.operation(operation)).state is OperationState.SUCCESS
            with pytest.raises(NotFound):
                await w.stoker.services.views.find(endpoint.slug, ADMIN)

    virtual.run(main())


def test_draining_everything_ends_all_workers_and_keeps_the_endpoints() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=2))
            await asyncio.sleep(10)
            request = w.gateway.request(endpoint.id, 20.0)
            await w.stoker.drain(hurry=asyncio.Event())
            assert request.outcome == "done"
            assert w.provider.workers == {}
            await w.crash()
            await w.boot()
            await asyncio.sleep(10)
            assert len(w.workers(endpoint.id, S.READY)) == 2, "the next start brings back what was wanted"

    virtual.run(main())


def test_a_hurried_drain_waits_for_nobody() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=1))
            await asyncio.sleep(10)
            w.gateway.request(endpoint.id, 10_000.0)
            hurry = asyncio.Event()
            hurry.set()
            began = asyncio.get_running_loop().time()
            await w.stoker.drain(hurry=hurry)
            assert asyncio.get_running_loop().time() - began < 5
            assert w.provider.workers == {}

    virtual.run(main())


def test_starting_a_stopped_endpoint_brings_it_back() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint: Endpoint = await w.create(spec(low=1))
            await asyncio.sleep(10)
            await w.stoker.endpoints.stop(ADMIN, endpoint.id)
            await asyncio.sleep(10)
            assert w.workers(endpoint.id) == []
            assert w.gateway.request(endpoint.id, 1.0).outcome == "refused"
            started, _ = await w.stoker.endpoints.start(ADMIN, endpoint.id)
            assert started.phase is Phase.ACTIVE
            await asyncio.sleep(10)
            assert len(w.workers(endpoint.id, S.READY)) == 1

    virtual.run(main())


def test_the_world_is_quiet_when_nothing_happens() -> None:
    async def main() -> None:
        async with world() as w:
            await w.create(spec(low=1))
            await asyncio.sleep(60)
            commits = 0
            write = w.store.write

            async def counted(command: object) -> object:
                nonlocal commits
                commits += 1
                return await write(command)  # type: ignore[arg-type]

            w.store.write = counted  # type: ignore[method-assign,assignment]
            await asyncio.sleep(100)
            assert commits <= 4, "the time of its worker is counted twice a minute"

    virtual.run(main())

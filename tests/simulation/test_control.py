"""Control as a whole, on virtual time: what holds whatever dies or lags."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from simulation import virtual
from simulation.virtual import wall
from simulation.world import ADMIN, World, spec, world
from stoker.domain.endpoint import (
    Endpoint,
    Phase,
    PlacementStrategy,
    PoolSpec,
    Rollout,
    ScaleBounds,
    ScalingPolicy,
    Strategy,
)
from stoker.domain.errors import Conflict, Invalid, NotFound, Unavailable
from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, PortRange
from stoker.domain.launch import LaunchSpec
from stoker.domain.operation import OperationState
from stoker.domain.probe import Probe, Probes
from stoker.domain.worker import WorkerState
from stoker.policy.backoff import FAILURES_BEFORE_REFUSAL
from stoker.policy.state import condition_of
from stoker.providers.fake import FakeProvider

S = WorkerState
# Nothing goes by itself while a test looks.
SLOW = ScalingPolicy(scale_down_delay_s=600, idle_timeout_s=3_600)


async def until(holds: Callable[[], bool]) -> None:
    """Let everything run that can run without time passing, until it holds."""
    for _ in range(10_000):
        if holds():
            return
        await asyncio.sleep(0)
    pytest.fail("it does not come to hold without time passing")


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


def one_card() -> FakeProvider:
    card = GpuDevice(index=0, id="GPU-x", family="h100", vram_gib=80)
    host = Offer(host="h", vcpu=8, ram_gib=64, gpus=(card,), ports=PortRange(20_000, 20_100))
    return FakeProvider(clock=virtual.wall, offers=(host,))


def test_what_does_not_fit_now_stays_pending_with_the_reason_and_starts_when_there_is_room() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            gpu = HardwareRequest(gpu_count=1)
            first = await w.create(spec("a", low=1, hardware=gpu))
            await asyncio.sleep(10)
            second = await w.create(spec("b", low=1, hardware=gpu))
            await asyncio.sleep(10)
            [pending] = w.workers(second.id)
            assert (pending.state, "0 of 1 free" in pending.reason) == (S.PENDING, True)
            await w.stoker.endpoints.delete(ADMIN, first.id)
            await asyncio.sleep(10)
            [ready] = w.workers(second.id)
            assert ready.state is S.READY
            assert w.provider.workers[ready.id].spec.gpus == ("GPU-x",)

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


async def decided(w: World, endpoint: Endpoint) -> list[str]:
    """Reasons of its decisions, the newest first."""
    return [decision.reason for decision in await w.stoker.services.views.decisions(endpoint.id, limit=100)]


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


def test_one_card_serves_many_endpoints_by_swapping() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            gpu = HardwareRequest(gpu_count=1)
            names = ("a", "b", "c")
            a, b, c = [await w.create(spec(name, hardware=gpu, scaling=SLOW)) for name in names]
            for endpoint in (a, b, c, a):
                request = w.gateway.request(endpoint.id, 1.0)
                await asyncio.sleep(60)
                assert request.outcome == "done"
                assert len(w.workers(endpoint.id, S.READY)) == 1
            assert len(w.provider.starts) == 4, "each swap costs one start"
            assert len(w.provider.workers) == 1
            assert any("makes room for b" in reason for reason in await decided(w, a))
            assert any("worker 1 of a is to make room" in reason for reason in await decided(w, b))
            assert "worker_draining" in await w.events(a.id)

    virtual.run(main())


def test_a_worker_makes_room_only_after_its_residence_and_only_idle() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            gpu = HardwareRequest(gpu_count=1)
            a, b = [await w.create(spec(name, hardware=gpu, scaling=SLOW)) for name in ("a", "b")]
            first = w.gateway.request(a.id, 50.0)
            await asyncio.sleep(3)
            second = w.gateway.request(b.id, 50.0)
            await asyncio.sleep(45)
            assert (first.outcome, w.workers(b.id, S.READY)) == (None, []), "it is busy"
            await asyncio.sleep(10)
            assert (first.outcome, len(w.workers(b.id, S.READY))) == ("done", 1)
            third = w.gateway.request(a.id, 1.0)
            await second.ended.wait()
            came = asyncio.get_running_loop().time()
            await third.ended.wait()
            assert asyncio.get_running_loop().time() - came < 10
            third = w.gateway.request(b.id, 1.0)
            await asyncio.sleep(20)
            assert w.workers(a.id, S.READY), "it came only just now"
            await third.ended.wait()
            assert third.outcome == "done"

    virtual.run(main())


def test_workers_below_the_floor_make_no_room() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            gpu = HardwareRequest(gpu_count=1)
            a, b = [await w.create(spec(name, low=low, hardware=gpu)) for name, low in (("a", 1), ("b", 0))]
            await asyncio.sleep(10)
            w.gateway.request(b.id, 1.0)
            await asyncio.sleep(200)
            assert len(w.workers(a.id, S.READY)) == 1
            assert w.provider.stops == []

    virtual.run(main())


def test_a_request_that_comes_while_its_worker_is_to_make_room_keeps_it() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            gpu = HardwareRequest(gpu_count=1)
            a, b = [await w.create(spec(name, hardware=gpu, scaling=SLOW)) for name in ("a", "b")]
            w.gateway.request(a.id, 1.0)
            await asyncio.sleep(40)
            late = w.gateway.request(b.id, 1.0)
            taken = w.gateway.request(a.id, 30.0)
            await asyncio.sleep(60)
            assert (taken.outcome, late.outcome) == ("done", "done")
            assert len(w.provider.starts) == 2, "nobody was started in vain"

    virtual.run(main())


def test_hardware_that_no_host_has_is_refused_and_nothing_is_recorded() -> None:
    async def main() -> None:
        async with world(one_card()) as w:
            with pytest.raises(Invalid, match="no host can ever run this") as caught:
                await w.create(spec(hardware=HardwareRequest(gpu_count=8)))
            assert caught.value.problems[0].pointer == "/pools/0/hardware"
            assert w.stoker.fleet.endpoints() == ()

    virtual.run(main())


@pytest.mark.parametrize(
    ("strategy", "hosts"),
    [(PlacementStrategy.PACK, ["a", "a", "a", "a"]), (PlacementStrategy.SPREAD, ["a", "a", "b", "c"])],
)
def test_workers_of_a_pool_fill_one_host_after_the_other_or_are_spread_over_all(
    strategy: PlacementStrategy, hosts: list[str]
) -> None:
    machines = tuple(Offer(host=name, vcpu=8, ram_gib=16, ports=PortRange(20_000, 20_100)) for name in "abc")

    async def main() -> None:
        async with world(FakeProvider(clock=virtual.wall, offers=machines)) as w:
            wanted = spec("e", low=4, hardware=HardwareRequest(vcpu=1))
            pools = tuple(replace(pool, placement=strategy) for pool in wanted.pools)
            endpoint = await w.create(replace(wanted, pools=pools))
            await asyncio.sleep(10)
            assert sorted(worker.placement.host for worker in w.workers(endpoint.id) if worker.placement) == hosts

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


def test_ports_are_not_given_out_again_before_their_quarantine_is_over() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=1))
            await asyncio.sleep(10)
            [old] = w.workers(endpoint.id)
            w.provider.crash(old.id)
            await asyncio.sleep(20)
            [new] = w.workers(endpoint.id)
            assert old.address is not None
            assert new.address is not None
            assert new.address.port != old.address.port
            await asyncio.sleep(80)
            second = await w.create(spec("second", low=1))
            await asyncio.sleep(10)
            [other] = w.workers(second.id)
            assert other.address == old.address

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

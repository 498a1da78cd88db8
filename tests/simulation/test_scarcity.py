"""Control where there is not enough of something: cards, room on hosts, ports."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from simulation import virtual
from simulation.situations import SLOW, decided, one_card
from simulation.world import ADMIN, spec, world
from stoker.domain.endpoint import PlacementStrategy
from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest, Offer, PortRange
from stoker.domain.worker import WorkerState
from stoker.providers.fake import FakeProvider

S = WorkerState


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

"""What workers report and requests announce, on virtual time: what is forgotten, bounded and believed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.client import Api, run
from stoker.control import load as module
from stoker.domain.access import Principal
from stoker.domain.endpoint import Endpoint
from stoker.domain.errors import Invalid, Saturated
from stoker.domain.load import Trial, WorkReport
from stoker.domain.worker import Worker, WorkerState


async def ready(api: Api, **more: Any) -> tuple[Endpoint, Worker, Principal]:
    """An endpoint with a ready worker, and who asks."""
    made = await api.create(**{"min": 1, "max": 1, **more})
    for _ in range(200):
        if api.world.workers(made["id"], WorkerState.READY):
            break
        await asyncio.sleep(0.5)
    control = api.world.stoker
    endpoint = control.fleet.endpoints()[0]
    [worker] = control.fleet.live(endpoint.id)
    return endpoint, worker, control.keys.principal(api.secret)


def test_a_worker_that_has_reported_and_falls_silent_gets_nothing_until_it_speaks_again() -> None:
    async def body(api: Api) -> None:
        endpoint, worker, by = await ready(api)
        load = api.world.stoker.demand.load
        load.reported(worker, WorkReport(at=api.world.stoker.clock(), loaded=True, perf=50.0))
        await asyncio.sleep(1)
        assert (await load.announce(by, endpoint, cost=1, wait_s=10)).worker == worker.id
        await asyncio.sleep(module.SILENT_S_MAX + 20)
        assert (await load.announce(by, endpoint, cost=1, wait_s=10)).worker is None
        load.reported(worker, WorkReport(at=api.world.stoker.clock(), loaded=True, perf=50.0))
        await asyncio.sleep(1)
        assert (await load.announce(by, endpoint, cost=1, wait_s=10)).worker == worker.id

    run(body)


def test_a_request_that_is_asked_for_again_gives_its_ticket_back_first() -> None:
    async def body(api: Api) -> None:
        endpoint, _, by = await ready(api)
        control = api.world.stoker
        first = await control.demand.load.announce(by, endpoint, cost=100, wait_s=10)
        for _ in range(3):
            again = await control.demand.load.announce(by, endpoint, cost=100, number=first.number, wait_s=10)
            assert again.number == first.number
        assert len(control.demand.reservations.list(by, endpoint)) == 1
        assert control.demand.load.rate(endpoint.id) == pytest.approx(100 / 60)

    run(body)


def test_no_more_are_announced_than_the_bound_and_costs_are_numbers_that_can_be() -> None:
    async def body(api: Api) -> None:
        # None is ready: all of them wait.
        made = await api.create(min=0, max=0)
        control = api.world.stoker
        endpoint, by = control.fleet.endpoints()[0], control.keys.principal(api.secret)
        assert endpoint.id == made["id"]
        load = control.demand.load
        for cost in (-1.0, float("nan"), float("inf")):
            with pytest.raises(Invalid):
                await load.announce(by, endpoint, cost=cost, wait_s=10)
        for _ in range(module.PER_ENDPOINT_MAX):
            await load.announce(by, endpoint, cost=0, wait_s=10)
        with pytest.raises(Saturated):
            await load.announce(by, endpoint, cost=0, wait_s=10)
        await asyncio.sleep(module.ASKED_S_MAX + 20)
        assert (await load.announce(by, endpoint, cost=0, wait_s=10)).number > 0

    run(body)


def test_load_is_told_in_the_unit_that_workers_measured_or_100_for_each_slot() -> None:
    async def body(api: Api) -> None:
        endpoint, worker, by = await ready(api, slots=4)
        load = api.world.stoker.demand.load
        await load.announce(by, endpoint, cost=600, wait_s=10)

        def known() -> dict[str, float]:
            return {name: reading.value for name, reading in load.readings(endpoint, None).items()}

        assert known() == {"announced_per_s": 10.0, "announced_waiting": 0.0, "announced_perf": 400.0}
        load.reported(worker, WorkReport(at=api.world.stoker.clock(), loaded=False, perf=1_000.0))
        assert known()["announced_perf"] == 1_000.0
        await load.announce(by, endpoint, cost=600, wait_s=10)
        assert known()["announced_waiting"] == 600.0
        await asyncio.sleep(module.RATE_WINDOW_S + 1)
        assert known()["announced_per_s"] == 0.0

    run(body)


def test_a_trial_is_over_when_so_many_machines_have_measured_or_after_a_while() -> None:
    async def body(api: Api) -> None:
        endpoint, worker, _ = await ready(api)
        load, now = api.world.stoker.demand.load, api.world.stoker.clock()
        load.reported(worker, WorkReport(at=now, loaded=False))

        def wanted(workers: int, since: float = now) -> float | None:
            found = load.readings(endpoint, Trial(workers=workers, since=since)).get("trial")
            return None if found is None else found.value

        assert "trial" not in load.readings(endpoint, None)
        assert (wanted(1), wanted(5)) == (1, 1), "no more than there are machines"
        assert wanted(1, now - module.MEASURE_S_MAX - 1) is None
        load.reported(worker, WorkReport(at=now, loaded=True, perf=1_000.0))
        assert wanted(1) is None

    run(body)

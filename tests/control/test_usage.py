"""What is used is counted once, whatever restarts: requests by cumulative reports, workers by their own times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation import virtual
from simulation.virtual import wall
from simulation.world import ADMIN, World, spec, world
from stoker.control.usage import SETTLING_S, Usage
from stoker.domain.endpoint import Endpoint, EndpointId
from stoker.domain.errors import Invalid
from stoker.domain.usage import By, UsageReport
from stoker.link.messages import FactEntry, Report, UsageEntry
from stoker.telemetry.segments import Segments


def run(body: Callable[[World, Endpoint], Awaitable[None]], *, low: int = 0) -> None:
    async def main() -> None:
        async with world() as w:
            await body(w, await w.create(spec(low=low)))

    virtual.run(main())


class Clock:
    """The world's, and ahead of it by so many seconds: nothing else has to live through them."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return wall() + self.ahead_s


def counting(
    w: World,
    folder: Path = Path("/nonexistent"),
    *,
    price: float | None = None,
    clock: Callable[[], float] = wall,
) -> Usage:
    """A count of its own, on the world's store."""
    kept = Segments(folder, bytes_max=10**9, total_bytes_max=10**9, kept_s=1e9)
    return Usage(w.stoker.fleet, w.store, kept, clock=clock, priced=lambda _: ("cpu", price))


def said(endpoint: Endpoint, requests: int, *, key: str | None = "k", metered: int = 0) -> Report:
    """A gateway's word: all that was used since its start."""
    entry = UsageEntry(endpoint.id, 1, key, requests, requests // 2, metered, 10 * metered, 20 * metered)
    return Report(1, 10.0, (), (entry,))


async def asked(
    usage: Usage, by: By = By.ENDPOINT, *, back_s: float = 86_400.0, clock: Callable[[], float] = wall
) -> UsageReport:
    return await usage.report(ADMIN, since=clock() - back_s, until=clock() + 1, by=by)


def test_sums_that_come_again_count_once_and_only_growth_is_added() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        usage = counting(w)
        for requests in (3, 3, 5, 4, 5):
            usage.reported(said(endpoint, requests, metered=2), incarnation="g1")
        await usage.step()
        [row] = (await asked(usage)).rows
        assert (row.group, row.name) == (endpoint.id, "e")
        assert (row.requests.requests, row.requests.errors) == (5, 2)
        assert (row.requests.metered, row.requests.prompt_tokens, row.requests.completion_tokens) == (2, 20, 40)

    run(body)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(("request", "report", "flush", "control dies", "gateway dies")), max_size=40))
def test_any_course_of_restarts_counts_every_reported_request_once(steps: list[str]) -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        usage, gateway, requests, known, lost = counting(w), 1, 0, 0, 0
        for step in steps:
            match step:
                case "request":
                    requests += 1
                case "report":
                    usage.reported(said(endpoint, requests), incarnation=f"g{gateway}")
                    known = requests
                case "flush":
                    await usage.step()
                case "control dies":
                    # What was not on disk is forgotten here, and said again by the gateway.
                    usage = counting(w)
                    await usage.load()
                    usage.reported(said(endpoint, requests), incarnation=f"g{gateway}")
                    known = requests
                case "gateway dies":
                    await usage.step()
                    lost += known
                    gateway, requests, known = gateway + 1, 0, 0
        await usage.step()
        assert (await asked(usage)).total.requests.requests == lost + known

    run(body)


def test_what_is_used_is_told_apart_by_key_and_hour_and_workers_belong_to_no_key() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        clock = Clock()
        usage = counting(w, clock=clock)
        usage.reported(said(endpoint, 4, key="k"), incarnation="g")
        usage.reported(said(endpoint, 2, key=None), incarnation="g")
        await usage.step()
        clock.ahead_s = 3_600
        usage.reported(said(endpoint, 9, key="k"), incarnation="g")
        await usage.step()
        keys = {row.group: (row.name, row.requests.requests) for row in (await asked(usage, By.KEY, clock=clock)).rows}
        assert keys == {"k": ("k", 9), "": ("no key", 2)}
        assert all(row.workers is None for row in (await asked(usage, By.KEY, clock=clock)).rows)
        hours = [row.requests.requests for row in (await asked(usage, By.HOUR, clock=clock)).rows]
        assert hours == [6, 5]
        [project] = (await asked(usage, By.PROJECT, clock=clock)).rows
        assert (project.group, project.requests.requests) == ("1", 11)
        assert (await asked(usage, back_s=60, clock=clock)).total.requests.requests == 5, "whole hours only"

    run(body)


def test_the_time_of_workers_is_counted_from_their_start_and_from_their_ready_moment() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        await asyncio.sleep(100)
        [worker] = w.workers(endpoint.id)
        await w.stoker.books.usage.step()
        [row] = (await asked(w.stoker.books.usage)).rows
        assert row.workers is not None
        assert worker.started_at is not None
        assert worker.ready_at is not None
        left_s = wall() - w.stoker.books.usage._until
        assert row.workers.started_s == pytest.approx(wall() - worker.started_at - left_s)
        assert row.workers.ready_s == pytest.approx(wall() - worker.ready_at - left_s)
        assert row.workers.priced_s == 0, "there is no price"
        [(hardware, usage)] = row.hardware
        assert (hardware.pool, hardware.hardware) == ("default", "cpu")
        assert usage == row.workers

    run(body, low=1)


def test_a_restart_of_control_neither_loses_nor_repeats_the_time_of_workers() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        for _ in range(3):
            await asyncio.sleep(77)
            await w.crash()
            await asyncio.sleep(33)
            await w.boot()
        await asyncio.sleep(100)
        [worker] = w.workers(endpoint.id)
        assert worker.started_at is not None
        row = (await asked(w.stoker.books.usage)).total
        assert row.workers is not None
        assert row.workers.started_s == pytest.approx(w.stoker.books.usage._until - worker.started_at)

    run(body, low=1)


def test_time_has_a_cost_once_there_is_a_price_and_only_then() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        usage = counting(w, price=3.6)
        await asyncio.sleep(SETTLING_S + 90)
        await usage.step()
        total = (await asked(usage)).total.workers
        assert total is not None
        assert total.priced_s > 80
        assert total.cost == pytest.approx(total.priced_s * 0.001)

    run(body, low=1)


def test_a_deleted_endpoint_keeps_its_usage_and_its_name() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        usage = w.stoker.books.usage
        usage.reported(said(endpoint, 4), incarnation="g")
        await w.stoker.endpoints.delete(ADMIN, endpoint.id)
        await asyncio.sleep(300)
        assert w.stoker.fleet.endpoint(endpoint.id) is None
        [row] = (await asked(usage)).rows
        assert (row.name, row.requests.requests) == ("e", 4)
        assert row.workers is not None

    run(body, low=1)


def test_a_write_that_fails_is_made_up_for_by_the_next() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        usage, write = counting(w), w.store.write

        async def fails(command: object) -> None:
            raise OSError("the disk is full")

        usage.reported(said(endpoint, 4), incarnation="g")
        w.store.write = fails  # type: ignore[method-assign,assignment]
        with pytest.raises(OSError, match="full"):
            await usage.step()
        w.store.write = write  # type: ignore[method-assign]
        usage.reported(said(endpoint, 7), incarnation="g")
        await usage.step()
        assert (await asked(usage)).total.requests.requests == 7
        again = counting(w)
        await again.load()
        again.reported(said(endpoint, 7), incarnation="g")
        await again.step()
        assert (await asked(again)).total.requests.requests == 7

    run(body)


def test_facts_are_kept_with_the_time_of_their_arrival(tmp_path: Path) -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        usage = counting(w, tmp_path)
        fact = FactEntry(endpoint.id, 4.0, 0.5, 2.0, 0.25, 7, 8, 200, "k")
        unknown = FactEntry("nobody", 4.0, 0.5, 2.0, 0.25, 7, 8, 200, "k")
        usage.reported(Report(1, 10.0, (), (), (fact, unknown)), incarnation="g")
        at = wall() - 6.0
        await usage.close()
        [kept] = usage._segments.read(endpoint.id)
        assert kept.at == pytest.approx(at, abs=0.002)
        assert (kept.wait_s, kept.service_s, kept.first_byte_s, kept.status, kept.key) == (0.5, 2.0, 0.25, 200, "k")
        assert usage._segments.endpoints() == (endpoint.id,), "nothing of endpoints that nobody knows"
        await usage.trim(kept_s=86_400)
        assert usage._segments.endpoints() == (endpoint.id,)

    run(body)


def test_a_disk_that_takes_no_facts_costs_facts_and_no_counts(tmp_path: Path) -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        (tmp_path / "file").touch()
        clock = Clock()
        usage = counting(w, tmp_path / "file", clock=clock)
        fact = FactEntry(endpoint.id, 4.0, 0.5, 2.0, 0.25, 7, 8, 200, "k")
        usage.reported(Report(1, 10.0, (), said(endpoint, 3).usage, (fact,)), incarnation="g")
        clock.ahead_s = 20.0
        with pytest.raises(OSError, match="file"):
            await usage.step()
        assert (await asked(usage)).facts_dropped == 1
        assert (await asked(usage)).total.requests.requests == 3

    run(body)


def test_what_is_too_old_is_forgotten_and_a_gateway_that_lives_keeps_its_marks() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        clock = Clock()
        usage = counting(w, clock=clock)
        usage.reported(said(endpoint, 4), incarnation="old")
        usage.reported(said(endpoint, 5), incarnation="g")
        await usage.step()
        clock.ahead_s = 10 * 86_400.0
        await usage.trim(kept_s=5 * 86_400)
        assert (await asked(usage, back_s=20 * 86_400, clock=clock)).total.requests.requests == 0
        usage.reported(said(endpoint, 6), incarnation="g")
        await usage.step()
        assert (await asked(usage, back_s=60, clock=clock)).total.requests.requests == 1
        assert {mark.incarnation for mark in usage._marks} == {"g"}

    run(body)


@pytest.mark.parametrize(("since", "until"), [(10.0, 10.0), (20.0, 10.0), (0.0, 400 * 86_400.0)])
def test_spans_that_make_no_sense_are_refused(since: float, until: float) -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        with pytest.raises(Invalid):
            await counting(w).report(ADMIN, since=since, until=until, by=By.HOUR)

    run(body)


def test_groups_beyond_the_limit_are_in_the_total_and_counted_as_omitted() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        usage = counting(w)
        for number in range(5):
            entry = UsageEntry(endpoint.id, 1, f"k{number}", number + 1, 0, 0, 0, 0)
            usage.reported(Report(1, 10.0, (), (entry,)), incarnation="g")
        await usage.step()
        report = await usage.report(ADMIN, since=wall() - 60, until=wall(), by=By.KEY, limit=2)
        assert [row.group for row in report.rows] == ["k4", "k3"]
        assert (report.omitted, report.total.requests.requests) == (3, 15)

    run(body)


def test_an_endpoint_that_a_key_does_not_reach_is_not_in_its_usage() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        usage = counting(w)
        usage.reported(said(endpoint, 4), incarnation="g")
        await usage.step()
        for reached, requests in ((frozenset({endpoint.id}), 4), (frozenset({EndpointId("x")}), 0), (frozenset(), 0)):
            principal = replace(ADMIN, endpoints=reached)
            report = await usage.report(principal, since=wall() - 60, until=wall(), by=By.ENDPOINT)
            assert report.total.requests.requests == requests

    run(body)

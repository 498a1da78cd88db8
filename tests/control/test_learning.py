"""What is learned stays known, and those who wait are told."""

from __future__ import annotations

import asyncio

import pytest

from simulation import virtual
from simulation.virtual import wall
from simulation.world import spec, world
from stoker.control.learning import Learning, digest_of
from stoker.domain.launch import Launch
from stoker.domain.learned import Kind
from stoker.domain.scaling import Auto, ScalingPolicy
from stoker.domain.worker import WorkerState
from stoker.link.messages import EndpointReport, Report
from stoker.telemetry.traffic import TrafficMeter


def test_starts_are_learned_told_to_the_gateway_and_known_after_a_restart() -> None:
    async def main() -> None:
        async with world() as w:
            made = await w.create(spec(low=1))
            assert w.stoker.books.learning.expected_start_s(made) is None, "nothing is known yet"
            w.load_s = 30.0
            await asyncio.sleep(60)
            [cold] = w.stoker.books.learning.of_endpoint(made)
            assert cold.kind is Kind.START_COLD
            assert cold.samples.quantile(0.5) == pytest.approx(30.0, abs=1.0)
            w.load_s = 4.0
            [worker] = w.workers(made.id, WorkerState.READY)
            w.provider.crash(worker.id)
            await asyncio.sleep(60)
            known = {item.kind: item.samples for item in w.stoker.books.learning.of_endpoint(made)}
            assert known[Kind.START_WARM].quantile(0.5) == pytest.approx(4.0, abs=1.0)
            assert w.stoker.books.learning.expected_start_s(made) in (4.0, 5.0)
            entry = w.gateway.entry(made.id)
            assert entry is not None
            assert entry.expected_start_s in (4.0, 5.0)
            await w.crash()
            await w.boot()
            await asyncio.sleep(20)
            again = {item.kind: item.samples for item in w.stoker.books.learning.of_endpoint(made)}
            assert again == known, "nothing is learned twice"

    virtual.run(main())


def test_how_long_cold_workers_take_to_be_back_is_learned_apart_from_starts() -> None:
    async def main() -> None:
        async with world() as w:
            w.load_s = 30.0
            scaling = ScalingPolicy(triggers=(Auto(cold_cost=0.05),))
            made = await w.create(spec(slots=1, high=1, scaling=scaling))
            for _ in range(4):
                # Gone again long before anybody looks.
                await w.gateway.request(made.id, 0.5).ended.wait()
                w.load_s = 1.0
                await asyncio.sleep(20)
            known = {item.kind: item.samples for item in w.stoker.books.learning.of_endpoint(made)}
            assert known[Kind.START_COLD].quantile(0.5) == pytest.approx(30.0, abs=1.5)
            assert Kind.START_WARM not in known, "who is back from cold has not been started"
            assert known[Kind.RESUME].count == 3
            assert known[Kind.RESUME].quantile(0.5) == pytest.approx(1.0, abs=1.0)
            assert w.stoker.books.learning.expected_start_s(made) in (30.0, 31.0)
            explained = await w.stoker.services.views.explanation(made, at=None)
            assert explained.present is not None
            assert explained.present.inputs["start_s"] in (30, 31)
            resume_s = explained.present.inputs["resume_s"]
            assert resume_s is not None
            assert resume_s <= 2
            assert explained.present.inputs["auto.resume_s"] == pytest.approx(resume_s, abs=1e-3)
            # Neither a restart nor what happens then confuses the two.
            await w.crash()
            await w.boot()
            await w.gateway.request(made.id, 0.5).ended.wait()
            await asyncio.sleep(20)
            again = {item.kind: item.samples for item in w.stoker.books.learning.of_endpoint(made)}
            assert (again[Kind.RESUME].count, again[Kind.START_COLD]) == (4, known[Kind.START_COLD])

    virtual.run(main())


def test_what_makes_another_launch_is_what_runs() -> None:
    launch = Launch(engine=None, command=("a",))
    assert digest_of(launch) == digest_of(Launch(engine="x", command=("a",), slots=9))
    others = (Launch(engine=None, command=("b",)), Launch(engine=None, command=("a",), env={"X": "1"}))
    assert len({digest_of(launch), *map(digest_of, others)}) == 3


def test_what_a_saturated_worker_sustains_is_learned_from_reports() -> None:
    async def main() -> None:
        async with world() as w:
            made = await w.create(spec(low=1, slots=2))
            await asyncio.sleep(10)
            [worker] = w.workers(made.id, WorkerState.READY)
            meter, tokens = TrafficMeter(), 0
            learning = Learning(w.stoker.fleet, meter, clock=wall, tokens=lambda _: tokens, changed=lambda _: None)
            meter.connected()
            for seconds in range(0, 60, 5):
                # Both slots are always taken, three requests a second come through, each with ten tokens.
                entry = EndpointReport(
                    made.id, 2, 4, 0.0, 3 * seconds, 3 * seconds, 0, 0, 2.0 * seconds, 0.0, {worker.id: 2}
                )
                meter.update(Report(1, float(seconds), (entry,)), now=wall(), windows={made.id: 10.0})
                tokens = 30 * seconds
                await learning.step()
                await asyncio.sleep(5)
            known = {item.kind: item.samples for item in learning.of_endpoint(made)}
            assert known.keys() == {Kind.REQUESTS, Kind.TOKENS}
            assert known[Kind.REQUESTS].quantile(0.5) == pytest.approx(3.0)
            assert known[Kind.TOKENS].quantile(0.5) == pytest.approx(30.0)
            assert known[Kind.REQUESTS].count == 5

    virtual.run(main())

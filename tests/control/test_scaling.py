"""Scaling in the whole of control: several triggers, advice, restarts, explanations, numbers that workers tell."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from simulation import virtual
from simulation.virtual import wall
from simulation.world import ADMIN, World, spec, world
from stoker.control.measuring import PERIOD_S
from stoker.control.scaling import QUIET_S_MAX
from stoker.domain.endpoint import Endpoint, EndpointSpec, ScaleBounds, ScalingPolicy
from stoker.domain.hardware import HardwareRequest
from stoker.domain.measurements import Taken
from stoker.domain.operation import Decision
from stoker.domain.scaling import Auto, Concurrency, Cpu, Custom, Load, QueueLength, RequestRate, Schedule, Step
from stoker.domain.views import Explanation
from stoker.domain.worker import WorkerId, WorkerState
from stoker.policy.auto import estimates
from stoker.policy.replay import again, of_recorded
from stoker.providers.fake import FakeProvider
from stoker.store import experiences

READY = WorkerState.READY
EVERY_DAY = Schedule(start="0 8 * * *", end="0 9 * * *", workers=2)


async def explained(w: World, endpoint: Endpoint, at: float | None = None) -> Explanation:
    current = w.stoker.fleet.endpoint(endpoint.id)
    assert current is not None
    return await w.stoker.services.views.explanation(current, at=at)


async def decisions(w: World, endpoint: Endpoint) -> tuple[Decision, ...]:
    """All that are stored. Each leads to itself again by what was recorded with it."""
    made = await w.stoker.services.views.decisions(endpoint.id, limit=100)
    for decision in made:
        if decision.triggers:
            assert decision.given is not None
            once_more = again(of_recorded(decision.given), decision)
            stripped = replace(decision, inputs={}, ages={}, number=None, given=None)
            assert once_more == stripped
    return made


def desired(w: World, endpoint: Endpoint) -> int:
    current = w.stoker.fleet.endpoint(endpoint.id)
    assert current is not None
    return current.desired


def test_a_decision_is_stored_with_what_each_trigger_asked_for() -> None:
    async def main() -> None:
        async with world() as w:
            triggers = (Concurrency(target=4), QueueLength(target=1))
            endpoint = await w.create(spec(high=2, scaling=ScalingPolicy(triggers=triggers)))
            for _ in range(3):
                w.gateway.request(endpoint.id, 60.0)
            await asyncio.sleep(5)
            last, *_ = await decisions(w, endpoint)
            assert [(each.trigger, each.workers) for each in last.triggers] == [("concurrency", 1), ("queue_length", 3)]
            assert (last.workers, last.limits) == (2, ("at most 2",))
            assert last.inputs["waiting"] == 3
            assert last.ages["waiting"] < 1.0

    virtual.run(main())


def test_an_explanation_is_of_then_or_of_now() -> None:
    async def main() -> None:
        async with world() as w:
            scaling = ScalingPolicy(scale_down_delay_s=5, idle_timeout_s=20)
            endpoint = await w.create(spec(scaling=scaling))
            before = wall() - 1
            request = w.gateway.request(endpoint.id, 1.0)
            await asyncio.sleep(1)
            woken = wall()
            await request.ended.wait()
            await asyncio.sleep(30)
            now = await explained(w, endpoint)
            assert now.decision is not None
            assert now.present is not None
            assert (now.decision.workers, now.present.workers) == (0, 0)
            then = await explained(w, endpoint, woken)
            assert then.decision is not None
            assert (then.decision.workers, then.present) == (1, None)
            assert (await explained(w, endpoint, before)).decision is None

    virtual.run(main())


def test_advice_is_recorded_once_and_nobody_acts_on_it_but_bounds_hold() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(
                spec(low=1, high=4, scaling=ScalingPolicy(triggers=(Concurrency(),), advisory=True))
            )
            await asyncio.sleep(10)
            for _ in range(3):
                w.gateway.request(endpoint.id, 600.0)
            await asyncio.sleep(30)
            assert (desired(w, endpoint), len(w.workers(endpoint.id))) == (1, 1)
            advice = [each.workers for each in await decisions(w, endpoint) if each.advisory]
            assert advice[0] == 3
            assert len(set(advice)) == len(advice), "the same is not recorded again"
            changed = spec(low=2, high=4, scaling=ScalingPolicy(triggers=(Concurrency(),), advisory=True))
            await w.stoker.endpoints.update(ADMIN, endpoint.id, changed)
            await asyncio.sleep(10)
            assert len(w.workers(endpoint.id, READY)) == 2

    virtual.run(main())


def test_a_restart_of_control_forgets_no_demand() -> None:
    async def main() -> None:
        async with world() as w:
            scaling = ScalingPolicy(scale_down_delay_s=60, idle_timeout_s=600)
            endpoint = await w.create(spec(scaling=scaling))
            requests = [w.gateway.request(endpoint.id, 5.0) for _ in range(4)]
            for request in requests:
                await request.ended.wait()
            assert desired(w, endpoint) == 4
            await w.crash()
            await w.boot(gateway=w.gateway)
            await asyncio.sleep(50)
            assert desired(w, endpoint) == 4
            await asyncio.sleep(20)
            assert desired(w, endpoint) == 1

    virtual.run(main())


def test_an_endpoint_begins_with_its_initial_number() -> None:
    async def main() -> None:
        async with world() as w:
            scaling = ScalingPolicy(initial=2, scale_down_delay_s=30, idle_timeout_s=60)
            endpoint = await w.create(spec(scaling=scaling))
            await asyncio.sleep(10)
            assert len(w.workers(endpoint.id, READY)) == 2
            await asyncio.sleep(90)
            assert w.workers(endpoint.id) == []

    virtual.run(main())


def test_a_schedule_brings_workers_and_takes_them_again_without_a_request() -> None:
    async def main() -> None:
        async with world() as w:
            minute = int(wall() // 60) % 60
            start, end = f"{(minute + 2) % 60} * * * *", f"{(minute + 5) % 60} * * * *"
            trigger = Schedule(start=start, end=end, workers=2)
            endpoint = await w.create(spec(scaling=ScalingPolicy(triggers=(Concurrency(), trigger))))
            await asyncio.sleep(45)
            assert desired(w, endpoint) == 0
            await asyncio.sleep(120)
            assert len(w.workers(endpoint.id, READY)) == 2
            await asyncio.sleep(600)
            assert w.workers(endpoint.id) == []

    virtual.run(main())


def test_a_number_that_workers_tell_grows_the_endpoint_and_ages_when_they_tell_it_no_more() -> None:
    async def main() -> None:
        async with world() as w:
            trigger = Custom(path="/stats", pointer="/queue/depth", target=10.0)
            scaling = ScalingPolicy(triggers=(trigger,), scale_down_delay_s=0, idle_timeout_s=600)
            endpoint = await w.create(spec(low=1, scaling=scaling))
            await asyncio.sleep(10)
            [worker] = w.workers(endpoint.id, READY)
            assert worker.address is not None
            w.pages[worker.address.port] = '{"queue": {"depth": 25}}'
            await asyncio.sleep(2 * PERIOD_S)
            assert desired(w, endpoint) == 3
            # Neither does one harm that nobody can count to, nor to the others.
            w.pages[worker.address.port] = '{"queue": {"depth": ' + "9" * 400 + "}}"
            await asyncio.sleep(2 * PERIOD_S)
            assert desired(w, endpoint) == 3
            w.pages[worker.address.port] = "not JSON"
            await asyncio.sleep(40)
            assert desired(w, endpoint) == 3, "what is unknown shrinks nothing"
            now = await explained(w, endpoint)
            assert now.workers[worker.number]["/stats /queue/depth"].stale
            assert now.present is not None
            assert now.present.triggers[0].workers is None

    virtual.run(main())


class Busy(FakeProvider):
    """Its workers use one processor and a half each."""

    async def measure(self, workers: Mapping[WorkerId, tuple[str, ...]]) -> Mapping[WorkerId, Taken]:
        return {worker: Taken(cpu_s=1.5 * wall(), memory_bytes=2**30) for worker in workers}


def test_processors_that_are_used_grow_the_endpoint() -> None:
    async def main() -> None:
        async with world(Busy(clock=wall)) as w:
            scaling = ScalingPolicy(triggers=(Cpu(threshold=50.0),))
            endpoint = await w.create(spec(low=1, hardware=HardwareRequest(vcpu=2), scaling=scaling))
            await asyncio.sleep(40)
            assert desired(w, endpoint) == 4, "each of them is at 75 %, so there are never enough"
            now = await explained(w, endpoint)
            assert round(now.workers[1]["cpu"].value, 2) == 0.75

    virtual.run(main())


def test_a_rate_of_requests_grows_the_endpoint() -> None:
    async def main() -> None:
        async with world() as w:
            scaling = ScalingPolicy(triggers=(RequestRate(target=1.0, window_s=20.0),), scale_down_delay_s=0)
            endpoint = await w.create(replace(spec(scaling=scaling), slots=64))
            for _ in range(60):
                w.gateway.request(endpoint.id, 0.1)
                w.gateway.request(endpoint.id, 0.1)
                await asyncio.sleep(1)
            assert desired(w, endpoint) == 2
            now = await explained(w, endpoint)
            assert now.present is not None
            assert 1.9 <= (now.present.triggers[0].value or 0.0) <= 2.1

    virtual.run(main())


def test_load_keeps_workers_cold_beside_those_that_it_needs() -> None:
    async def main() -> None:
        async with world() as w:
            load = Load(perf=1.5, target_util=1.0, window_s=10.0, cold_workers=2)
            endpoint = await w.create(spec(scaling=ScalingPolicy(triggers=(load,), scale_down_delay_s=5)))
            await asyncio.sleep(90)
            assert [x.state for x in w.workers(endpoint.id)] == [WorkerState.COLD, WorkerState.COLD]
            for _ in range(30):
                w.gateway.request(endpoint.id, 0.2)
                await asyncio.sleep(1)
            assert sorted(x.state for x in w.workers(endpoint.id)) == [WorkerState.COLD, READY]

    virtual.run(main())


def test_a_policy_that_changes_begins_anew() -> None:
    async def main() -> None:
        async with world() as w:
            slow = ScalingPolicy(scale_down_delay_s=600, idle_timeout_s=3_600)
            endpoint = await w.create(spec(scaling=slow))
            await asyncio.gather(*[w.gateway.request(endpoint.id, 5.0).ended.wait() for _ in range(3)])
            assert desired(w, endpoint) == 3
            quick = replace(slow, scale_down_delay_s=5)
            await w.stoker.endpoints.update(ADMIN, endpoint.id, spec(scaling=quick))
            await asyncio.sleep(15)
            assert desired(w, endpoint) == 1
            assert endpoint.spec.bounds == ScaleBounds(max=4)

    virtual.run(main())


def test_what_learns_serves_every_request_from_zero_and_goes_back_to_zero() -> None:
    """Nothing is said of scaling: bursts, silence, bursts."""

    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(slots=2, high=6, scaling=ScalingPolicy()))
            requests = []
            for _ in range(3):
                for _ in range(20):
                    requests.append(w.gateway.request(endpoint.id, 3.0))
                    await asyncio.sleep(0.5)
                await asyncio.sleep(120)
            for request in requests:
                await request.ended.wait()
            assert {request.outcome for request in requests} == {"done"}
            assert desired(w, endpoint) <= 6
            await asyncio.sleep(6 * 3_600)
            assert w.workers(endpoint.id) == []
            made = await decisions(w, endpoint)
            assert {each.trigger for decision in made for each in decision.triggers} == {"auto"}
            assert max(decision.workers for decision in made) > 1

    virtual.run(main())


def test_what_was_recorded_of_a_decision_leads_to_it_again() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(slots=2, high=6, scaling=ScalingPolicy(triggers=(Auto(late_cost=50),))))
            for index in range(60):
                w.gateway.request(endpoint.id, 1.0 + index % 7)
                await asyncio.sleep(0.4 if index % 20 else 45.0)
            made = [each for each in await decisions(w, endpoint) if each.triggers]
            assert len(made) > 3
            for decision in made:
                known, setting = estimates.of_recorded(decision.inputs)
                wanted = estimates.choose(known, setting)
                assert (wanted.workers, wanted.reason) == (decision.triggers[0].workers, decision.triggers[0].text)
                assert setting.late_cost_s == 50

    virtual.run(main())


def test_what_was_learned_outlasts_control() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(slots=1, scaling=ScalingPolicy()))
            for _ in range(20):
                request = w.gateway.request(endpoint.id, 2.0)
                await request.ended.wait()
                await asyncio.sleep(30)
            before = (await explained(w, endpoint)).present
            assert before is not None
            await w.crash()
            await w.boot(gateway=w.gateway)
            await asyncio.sleep(2)
            after = (await explained(w, endpoint)).present
            assert after is not None
            assert before.inputs["auto.service_known"] == 1
            for name in ("auto.service_s", "auto.kept", "auto.persistence"):
                assert after.inputs[name] == pytest.approx(before.inputs[name], rel=0.1), name
            await w.stoker.endpoints.delete(ADMIN, endpoint.id)
            await asyncio.sleep(60)
            assert await w.store.read(experiences.everything) == ()

    virtual.run(main())


def test_looking_at_an_explanation_teaches_nothing() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(slots=1, scaling=ScalingPolicy()))
            w.gateway.request(endpoint.id, 30.0)
            await asyncio.sleep(10)
            auto = w.stoker.books.experiences.of(endpoint.id)
            assert auto is not None
            before = auto.known(wall())
            for _ in range(5):
                await explained(w, endpoint)
            assert auto.known(wall()) == before

    virtual.run(main())


def test_what_learns_keeps_workers_cold_where_that_is_said_to_be_cheap() -> None:
    async def main() -> None:
        async with world() as w:
            scaling = ScalingPolicy(triggers=(Auto(cold_cost=0.05),))
            endpoint = await w.create(spec(slots=1, high=4, scaling=scaling))
            for _ in range(6):
                requests = [w.gateway.request(endpoint.id, 10.0) for _ in range(2)]
                for request in requests:
                    await request.ended.wait()
                    assert request.outcome == "done"
                await asyncio.sleep(60)
            assert w.workers(endpoint.id, READY) == []
            cold = w.workers(endpoint.id, WorkerState.COLD)
            assert cold
            starts = len(w.provider.starts)
            request = w.gateway.request(endpoint.id, 1.0)
            await request.ended.wait()
            assert {worker.id for worker in w.workers(endpoint.id)} == {worker.id for worker in cold}
            assert len(w.provider.starts) - starts <= len(cold), "those that were there run again"

    virtual.run(main())


def test_an_endpoint_that_nothing_is_heard_of_is_left_alone_until_time_may_change_something() -> None:
    async def main() -> None:
        async with world() as w:
            learns = await w.create(spec("learns", scaling=ScalingPolicy()))
            scheduled = await w.create(spec("scheduled", scaling=ScalingPolicy(triggers=(Concurrency(), EVERY_DAY))))
            await asyncio.sleep(5)
            scaling = w.stoker.gateway.scaling
            assert scaling.sleeps(learns.id, now=wall())
            assert not scaling.sleeps(scheduled.id, now=wall() + 1)
            assert not scaling.sleeps(learns.id, now=wall() + QUIET_S_MAX + 1)
            await w.gateway.request(learns.id, 1.0).ended.wait()
            await asyncio.sleep(2)
            assert not scaling.sleeps(learns.id, now=wall() + 60), "somebody was there just now"

    virtual.run(main())


def test_a_number_set_by_hand_holds_over_restarts_of_control_until_its_end() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(high=4, scaling=ScalingPolicy(idle_timeout_s=5, scale_down_delay_s=0)))
            await w.stoker.endpoints.scale(ADMIN, endpoint.id, 2, for_s=120.0)
            await asyncio.sleep(60)
            await w.crash()
            await w.boot(gateway=w.gateway)
            await asyncio.sleep(40)
            assert (desired(w, endpoint), len(w.workers(endpoint.id, READY))) == (2, 2)
            present = (await explained(w, endpoint)).present
            assert present is not None
            assert present.reason.startswith("set by hand, for another")
            await asyncio.sleep(40)
            assert desired(w, endpoint) == 0
            # One that ends while nobody is there to see it.
            await w.stoker.endpoints.scale(ADMIN, endpoint.id, 3, for_s=30.0)
            await asyncio.sleep(10)
            assert desired(w, endpoint) == 3
            await w.crash()
            await asyncio.sleep(60)
            await w.boot(gateway=w.gateway)
            await asyncio.sleep(20)
            assert desired(w, endpoint) == 0
            assert [each.workers for each in await decisions(w, endpoint)] == [0, 1, 3, 0, 2]

    virtual.run(main())


def test_an_idle_worker_goes_though_the_gateway_was_silent_for_a_while_and_says_nothing_of_it_after_that() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(high=2))
            await w.gateway.request(endpoint.id, 1.0).ended.wait()
            await asyncio.sleep(5)
            assert len(w.workers(endpoint.id, READY)) == 1
            w.gateway.silent = True
            await asyncio.sleep(10)
            w.gateway.silent = False
            await asyncio.sleep(60)
            assert w.workers(endpoint.id) == []

    virtual.run(main())


def test_advice_is_switched_on_and_off_while_workers_run_and_requests_are_served() -> None:
    async def main() -> None:
        async with world() as w:

            def wanted(*, advisory: bool) -> EndpointSpec:
                policy = ScalingPolicy(triggers=(Concurrency(),), idle_timeout_s=20, scale_down_delay_s=0)
                return spec(high=4, scaling=replace(policy, advisory=advisory))

            endpoint = await w.create(wanted(advisory=False))
            first = w.gateway.request(endpoint.id, 60.0)
            await asyncio.sleep(10)
            await w.stoker.endpoints.update(ADMIN, endpoint.id, wanted(advisory=True))
            second = w.gateway.request(endpoint.id, 60.0)
            await asyncio.sleep(10)
            assert len(w.workers(endpoint.id)) == 1, "neither is one started"
            assert (await decisions(w, endpoint))[0].advisory
            await first.ended.wait()
            await second.ended.wait()
            await asyncio.sleep(60)
            assert len(w.workers(endpoint.id, READY)) == 1, "nor one taken away"
            [last, *_] = await decisions(w, endpoint)
            assert (last.workers, last.advisory) == (0, True)
            # By hand it is scaled nevertheless: that is no advice.
            await w.stoker.endpoints.scale(ADMIN, endpoint.id, 2, for_s=20.0)
            await asyncio.sleep(10)
            assert len(w.workers(endpoint.id, READY)) == 2
            await asyncio.sleep(20)
            assert len(w.workers(endpoint.id, READY)) == 2, "and stays as it is when the time is over"
            await w.stoker.endpoints.update(ADMIN, endpoint.id, wanted(advisory=False))
            await asyncio.sleep(30)
            assert w.workers(endpoint.id, READY) == []
            assert (first.outcome, second.outcome) == ("done", "done")

    virtual.run(main())


def test_advice_of_an_endpoint_without_workers_is_there_for_whoever_asks() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(high=4, scaling=ScalingPolicy(advisory=True)))
            w.gateway.request(endpoint.id, 1.0)
            await asyncio.sleep(5)
            assert w.workers(endpoint.id) == []
            found = await explained(w, endpoint)
            assert found.decision is not None
            assert found.present is not None
            assert (found.decision.workers, found.present.workers) == (1, 1)
            assert found.decision.limits[-1] == "advisory: nobody acts on it"

    virtual.run(main())


def test_a_stopped_endpoint_is_explained_by_that() -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=2, high=4))
            await asyncio.sleep(10)
            running = wall()
            await asyncio.sleep(1)
            await w.stoker.endpoints.stop(ADMIN, endpoint.id)
            await asyncio.sleep(10)
            stopped = w.stoker.fleet.endpoint(endpoint.id)
            assert stopped is not None
            found = await explained(w, stopped)
            assert found.decision is not None
            assert (found.decision.current, found.decision.workers) == (2, 0)
            assert found.decision.reason == "the endpoint is stopped"
            assert found.present is not None
            assert (found.present.workers, found.present.triggers) == (0, ())
            assert found.present.reason == "the endpoint is stopped: nothing is decided"
            assert (await explained(w, stopped, running)).decision is None, "it began with what its pools want"
            await w.stoker.endpoints.start(ADMIN, endpoint.id)
            await asyncio.sleep(10)
            assert desired(w, endpoint) == 2
            assert [each.workers for each in await decisions(w, endpoint)] == [2, 0]

    virtual.run(main())


def test_steps_and_cooldowns_go_on_over_a_restart_of_control() -> None:
    async def main() -> None:
        async with world() as w:
            steps = (Step(workers=1, period_s=100.0),)
            policies = {
                "cooled": ScalingPolicy(triggers=(Concurrency(),), scale_up_cooldown_s=100.0),
                "stepwise": ScalingPolicy(triggers=(Concurrency(),), scale_up_steps=steps),
            }
            for name, policy in policies.items():
                endpoint = await w.create(replace(spec(low=1, high=8, scaling=policy), name=name))
                await asyncio.sleep(20)
                for _ in range(2):
                    w.gateway.request(endpoint.id, 1_000.0)
                await asyncio.sleep(5)
                grown = wall()
                assert desired(w, endpoint) == 2
                await w.crash()
                await w.boot(gateway=w.gateway)
                for _ in range(2):
                    w.gateway.request(endpoint.id, 1_000.0)
                while wall() < grown + 80:
                    await asyncio.sleep(5)
                    assert desired(w, endpoint) == 2, name
                await asyncio.sleep(30)
                assert desired(w, endpoint) == (4 if name == "cooled" else 3)

    virtual.run(main())

"""`auto` on virtual time: cheaper than waiting for nothing, better than forgetting at once."""

from __future__ import annotations

import random
from dataclasses import replace

from stoker.domain.endpoint import ScalingPolicy
from stoker.domain.scaling import Auto
from stoker.policy.auto.estimates import Estimates, Setting
from stoker.simulate.bounds import zero_wait_bound
from stoker.simulate.draws import StartTimes
from stoker.simulate.rules.idle import KeepAlive
from stoker.simulate.rules.own import Own, auto
from stoker.simulate.run import Outcome, Rule, Run, View
from stoker.simulate.trace import PROFILES

PROFILE = PROFILES["A"]


def run(arrivals: list[float], services: list[float], rule: Rule) -> tuple[Outcome, float]:
    found = Run(arrivals, services, PROFILE, rule, StartTimes(PROFILE.start_s, PROFILE.sigma, 3)).whole()
    return found, found.gpu_s / zero_wait_bound(arrivals, services, PROFILE)


def poisson(rate: float, until: float, *, seed: int) -> list[float]:
    chance, at, found = random.Random(seed), 0.0, []
    while (at := at + chance.expovariate(rate)) < until:
        found.append(at)
    return found


def in_time(found: Outcome) -> float:
    return sum(wait <= 5.0 for wait in found.waits) / len(found.waits)


def test_steady_traffic_is_served_in_time_at_little_more_than_the_bound() -> None:
    arrivals = poisson(2.0, 3_600.0, seed=1)
    found, over = run(arrivals, [3.0] * len(arrivals), auto(PROFILE))
    assert in_time(found) > 0.98
    assert over < 1.25


def test_bursts_that_come_back_are_met_by_workers_that_were_kept() -> None:
    arrivals = sorted(120.0 * burst + 0.5 * index for burst in range(30) for index in range(16))
    services = [4.0] * len(arrivals)
    found, over = run(arrivals, services, auto(PROFILE))
    plain, plain_over = run(arrivals, services, KeepAlive())
    assert in_time(found) > in_time(plain) or over < plain_over
    assert in_time(found) > 0.8


def test_what_comes_once_a_day_is_not_kept_for() -> None:
    arrivals = [86_400.0 * day for day in range(1, 12)]
    found, _ = run(arrivals, [2.0] * len(arrivals), auto(PROFILE))
    assert found.gpu_s / len(arrivals) < 1_500.0


def test_cold_workers_are_back_at_once_and_cost_little() -> None:
    arrivals = sorted(120.0 * burst + 0.5 * index for burst in range(60) for index in range(16))
    services = [4.0] * len(arrivals)
    profile = replace(PROFILE, cold=True)
    bound = zero_wait_bound(arrivals, services, profile)
    found = Run(arrivals, services, profile, auto(profile), StartTimes(profile.start_s, profile.sigma, 3)).whole()
    plain, plain_over = run(arrivals, services, auto(PROFILE))
    assert in_time(found) > max(0.95, in_time(plain))
    assert found.gpu_s / bound < 1.1 < plain_over


def test_a_cold_worker_costs_its_share_and_what_is_never_needed_again_goes() -> None:
    profile = replace(PROFILE, cold=True)
    arrivals = [0.0, 600.0, 600_000.0]
    found = Run(arrivals, [10.0] * 3, profile, auto(profile), StartTimes(profile.start_s, profile.sigma, 3)).whole()
    always_ready = 600_000.0
    assert found.gpu_s < 0.06 * always_ready
    assert found.waits[1] <= profile.resume_s + 1e-9


def test_cold_workers_that_are_back_late_are_no_reason_to_let_requests_wait() -> None:
    arrivals = sorted(120.0 * burst + 0.5 * index for burst in range(60) for index in range(16))
    services = [4.0] * len(arrivals)

    def of(resume_s: float) -> Outcome:
        profile = replace(PROFILE, cold=True, resume_s=resume_s)
        return Run(arrivals, services, profile, auto(profile), StartTimes(profile.start_s, profile.sigma, 3)).whole()

    plain, _ = run(arrivals, services, auto(PROFILE))
    slow, late = of(PROFILE.wait_target_s), of(20.0)
    assert in_time(late) > max(0.94, in_time(plain) - 0.01)
    assert slow.gpu_s < late.gpu_s


class EachTime(Own):
    """Looks whenever it is asked."""

    def _look(self, view: View) -> tuple[Estimates, Setting] | None:
        self._seen = None
        return super()._look(view)


def test_looking_when_something_may_have_changed_is_about_as_good_as_looking_every_second() -> None:
    arrivals = poisson(0.3, 7_200.0, seed=4)
    services = [20.0] * len(arrivals)
    policy = ScalingPolicy(triggers=(Auto(wait_target_s=PROFILE.wait_target_s),))
    seldom, over = run(arrivals, services, Own(PROFILE, policy))
    often, over_often = run(arrivals, services, EachTime(PROFILE, policy))
    assert abs(in_time(seldom) - in_time(often)) < 0.02
    assert abs(over / over_often - 1) < 0.05


def test_what_comes_by_the_clock_is_met_by_workers_that_start_before_it() -> None:
    arrivals = sorted(1_800.0 * hour + 0.5 * index for hour in range(1, 49) for index in range(12))
    services = [4.0] * len(arrivals)
    found, over = run(arrivals, services, auto(PROFILE))
    later = [wait for arrival, wait in zip(arrivals, found.waits, strict=True) if arrival > 1_800.0 * 12]
    assert sum(wait <= 5.0 for wait in later) / len(later) > 0.95
    # Half an hour of each would be more than fifteen times as much.
    assert over < 3.0

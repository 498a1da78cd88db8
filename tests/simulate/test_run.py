"""One run: waits and costs by hand, and against queueing theory."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.simulate.draws import StartTimes
from stoker.simulate.pool import Machines
from stoker.simulate.rules.idle import KeepAlive
from stoker.simulate.run import Outcome, Rule, Run, View, initial
from stoker.simulate.trace import Profile


class Fixed:
    """Always as many."""

    tick_s = 1.0
    eager = False

    def __init__(self, workers: int) -> None:
        self.initial = workers

    def decide(self, view: View) -> int:
        return self.initial


class Course:
    """What is wanted from when on."""

    tick_s = 1.0
    eager = False

    def __init__(self, steps: Sequence[tuple[float, int]]) -> None:
        self.initial = 0
        self._steps = steps

    def decide(self, view: View) -> int:
        return [count for at, count in self._steps if at <= view.now][-1]

    def due(self) -> float:
        return 0.0


def run(
    rule: Rule,
    arrivals: Sequence[float],
    services: Sequence[float],
    *,
    slots: int = 1,
    start_s: float = 10.0,
    tail_s: float = 0.0,
) -> Outcome:
    profile = Profile(slots=slots, start_s=start_s, sigma=0.0)
    return Run(arrivals, services, profile, rule, StartTimes(start_s, 0.0, 0), tail_s=tail_s).whole()


def test_one_worker_serves_one_after_the_other() -> None:
    assert run(Fixed(1), [0, 1, 2], [2, 2, 2]).waits == [0, 1, 2]


def test_a_start_is_waited_for_and_paid_and_so_is_the_time_that_a_worker_is_kept() -> None:
    outcome = run(KeepAlive(), [100.0], [5.0], tail_s=500.0)
    assert list(outcome.waits) == pytest.approx([10.0])
    assert outcome.gpu_s == pytest.approx(75)
    assert (outcome.starts, outcome.flaps, outcome.peak) == (1, 0, 1)


def test_without_a_tail_it_ends_with_the_last_request() -> None:
    assert run(KeepAlive(), [100.0], [5.0]).gpu_s == pytest.approx(15)


def test_a_busy_worker_that_goes_finishes_what_it_has_and_takes_nothing_new() -> None:
    outcome = run(Course([(0, 1), (15, 0), (30, 1)]), [12, 20], [10, 1])
    assert outcome.waits == [0, 20], "the second waits for the second start, which comes after the first has drained"
    assert outcome.gpu_s == pytest.approx(22 + 11)
    assert (outcome.starts, outcome.flaps) == (2, 1)


def test_a_worker_that_loads_goes_at_once() -> None:
    assert run(Course([(0, 1), (4, 0), (6, 1)]), [16.0], [1.0]).gpu_s == pytest.approx(4 + 11)


def test_a_policy_that_never_serves_anybody_comes_to_an_end() -> None:
    outcome = run(Fixed(0), [1.0], [1.0])
    assert outcome.waits[0] >= 86_400
    assert outcome.gpu_s == 0


def test_every_run_begins_with_what_the_first_two_minutes_need() -> None:
    assert initial([0, 0, 60, 130], [120, 120, 200, 500], slots=1) == round(2.5)


def test_the_mean_wait_of_one_server_is_that_of_theory() -> None:
    waits = _poisson(load=0.8, servers=1, count=60_000)
    assert sum(waits) / len(waits) == pytest.approx(4.0, rel=0.2)


def test_the_mean_wait_of_several_servers_is_that_of_erlang() -> None:
    load, servers = 0.8, 4
    offered = load * servers
    last = offered**servers / math.factorial(servers) / (1 - load)
    erlang_c = last / (sum(offered**k / math.factorial(k) for k in range(servers)) + last)
    waits = _poisson(load=load, servers=servers, count=60_000)
    assert sum(waits) / len(waits) == pytest.approx(erlang_c / (servers - offered), rel=0.2)


def _poisson(*, load: float, servers: int, count: int) -> Sequence[float]:
    draw = random.Random(7)
    at, arrivals = 0.0, []
    for _ in range(count):
        at += draw.expovariate(load * servers)
        arrivals.append(at)
    return run(Fixed(servers), arrivals, [draw.expovariate(1.0) for _ in range(count)]).waits


@given(
    requests=st.lists(st.tuples(st.floats(0, 300), st.floats(0.1, 60)), min_size=1, max_size=40),
    wanted=st.lists(st.integers(0, 6), min_size=1, max_size=20),
    slots=st.integers(1, 3),
)
def test_whatever_a_policy_wants_nobody_is_lost_or_served_out_of_order(
    requests: list[tuple[float, float]], wanted: list[int], slots: int
) -> None:
    requests.sort()
    arrivals, services = [a for a, _ in requests], [s for _, s in requests]
    rule = Course([*((20.0 * i, count) for i, count in enumerate(wanted)), (20.0 * len(wanted), 1)])
    outcome = run(rule, arrivals, services, slots=slots)
    starts = [arrival + wait for arrival, wait in zip(arrivals, outcome.waits, strict=True)]
    assert starts == sorted(starts)
    assert min(outcome.waits) >= 0
    assert outcome.gpu_s >= sum(services) / slots - 1e-6
    assert outcome.steps[-1][1] == 0


def test_a_cold_worker_serves_though_others_load() -> None:
    profile = Profile(slots=1, start_s=50.0, sigma=0.0, cold=True, resume_s=1.0)
    machines = Machines(profile, StartTimes(50.0, 0.0, 0))
    machines.begin(1)
    machines.scale(0, 0.0, held=1)
    assert len(machines.cold) == 1
    begun = machines.scale(0, 10.0, held=3)
    assert [round(ready_at) for ready_at, _ in begun] == [60, 60]
    assert [ready_at for ready_at, _ in machines.scale(1, 11.0, held=3)] == [12.0]
    assert (len(machines.loading), len(machines.cold)) == (3, 0)
    machines.scale(1, 11.5, held=1)
    assert [machine.resuming for machine in machines.loading] == [True], "those that load go first"

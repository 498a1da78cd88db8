"""Extra workers for what waits: as many as pay."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stoker.policy.auto.backlog import Persistence, Waiting, worth_finishing, worth_starting

BURST = Waiting(
    requests=200,
    present=204,
    rate=10.0,
    service_s=2.0,
    slots=4,
    ready=1,
    needed=5,
    start_s=45.0,
    start_left_s=45.0,
)


def extra(it: Waiting, *, late_cost_s: float = 300.0, persistence: float = 1.0) -> int:
    return worth_starting(it, wait_target_s=5.0, late_cost_s=late_cost_s, persistence=persistence)


def test_a_burst_that_goes_on_is_worth_more_workers_than_its_rate_needs() -> None:
    assert extra(BURST) > 10


def test_what_those_needed_serve_in_time_needs_nobody_more() -> None:
    assert extra(replace(BURST, requests=3, rate=0.5)) == 0


def test_a_burst_that_is_likely_over_by_then_is_worth_less() -> None:
    assert extra(BURST, persistence=0.05) < extra(BURST)


@given(cost=st.floats(0.0, 1_000.0), requests=st.integers(0, 1_000), rate=st.floats(0.0, 100.0))
def test_dearer_lateness_and_longer_queues_never_want_fewer(cost: float, requests: int, rate: float) -> None:
    it = replace(BURST, requests=requests, rate=rate)
    assert 0 <= extra(it, late_cost_s=cost) <= extra(it, late_cost_s=cost + 100.0)
    assert extra(it, late_cost_s=cost) <= extra(replace(it, requests=requests + 50), late_cost_s=cost)


def test_a_start_that_is_nearly_over_is_worth_finishing_when_a_new_one_is_not_worth_beginning() -> None:
    nearly = replace(BURST, requests=20, present=24, rate=1.0, start_left_s=2.0)
    begun = worth_finishing(nearly, late_cost_s=300.0, persistence=1.0)
    assert begun > extra(nearly)


def test_the_share_of_arrivals_that_go_on_is_learned() -> None:
    persistence = Persistence()
    assert persistence.share == 1.0
    for burst in range(20):
        persistence.begin(burst * 100.0, 10.0)
        persistence.look(burst * 100.0 + 50.0, 1.0, start_s=45.0)
    assert persistence.share < 0.2
    persistence.begin(5_000.0, 10.0)
    persistence.look(5_050.0, 30.0, start_s=45.0)
    assert persistence.share > 0.2

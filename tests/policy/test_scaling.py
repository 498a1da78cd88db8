"""The scaling decision, as a table and as properties."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.endpoint import Override, ScaleBounds, ScalingPolicy
from stoker.policy.scaling import Asked, Signals, decide

NOW = 1_000.0
POLICY = ScalingPolicy(scale_down_delay_s=60, idle_timeout_s=300)


def signals(in_flight: int = 0, waiting: int = 0, peak: float = 0.0, idle_s: float = 0.0) -> Signals:
    return Signals(in_flight=in_flight, waiting=waiting, demand_peak=peak, busy_at=NOW - idle_s)


@pytest.mark.parametrize(
    ("seen", "current", "expected"),
    [
        pytest.param(signals(waiting=1), 0, 1, id="the first waiting request wakes an endpoint at zero"),
        pytest.param(signals(in_flight=4), 1, 1, id="a full worker with nobody waiting is enough"),
        pytest.param(signals(in_flight=4, waiting=1), 1, 2, id="one request too many asks for one more worker"),
        pytest.param(signals(waiting=40), 1, 5, id="a burst is answered at once, up to the maximum"),
        pytest.param(signals(in_flight=1, peak=9), 3, 3, id="a recent peak holds what it needed"),
        pytest.param(signals(in_flight=1, peak=5), 3, 2, id="a lower peak lets one go"),
        pytest.param(signals(peak=0, idle_s=10), 3, 1, id="idle for a while leaves one worker"),
        pytest.param(signals(peak=0, idle_s=299.9), 1, 1, id="one worker stays until the idle timeout"),
        pytest.param(signals(peak=0, idle_s=300), 1, 0, id="the idle timeout leads to zero"),
        pytest.param(signals(peak=8, idle_s=300), 2, 0, id="the idle timeout does not wait for an old peak"),
        pytest.param(signals(peak=0, idle_s=0), 0, 0, id="zero without requests stays zero"),
        pytest.param(None, 3, 3, id="without signals what is wanted stays"),
        pytest.param(None, 9, 5, id="without signals bounds still hold"),
    ],
)
def test_the_number_of_workers_follows_requests(seen: Signals | None, current: int, expected: int) -> None:
    decision = decide(POLICY, ScaleBounds(min=0, max=5), seen, slots=4, current=current, now=NOW)
    assert decision.workers == expected
    assert decision.reason


def asked(workers: int, peak: int = 0) -> Asked:
    return Asked(workers=workers, reason="cpu at 95%, 50% wanted", peak=max(peak, workers))


@pytest.mark.parametrize(
    ("seen", "triggers", "current", "expected"),
    [
        pytest.param(signals(in_flight=1), asked(3), 1, 3, id="a trigger asks for more than requests do"),
        pytest.param(signals(in_flight=12), asked(2), 1, 3, id="requests ask for more than a trigger does"),
        pytest.param(signals(in_flight=1), asked(1, peak=3), 3, 3, id="what triggers asked for lately is kept"),
        pytest.param(signals(in_flight=1), asked(1, peak=9), 2, 2, id="but nothing grows for what is over"),
        pytest.param(signals(idle_s=299), asked(3), 1, 3, id="a trigger holds until the idle timeout"),
        pytest.param(signals(idle_s=300), asked(3), 3, 0, id="the idle timeout beats a trigger"),
        pytest.param(signals(), asked(9), 1, 5, id="bounds hold"),
        pytest.param(signals(), asked(2), 0, 2, id="a queue wakes an endpoint at zero"),
        pytest.param(signals(in_flight=1), asked(0, peak=0), 2, 1, id="one that asks for nothing changes nothing"),
    ],
)
def test_the_largest_number_wins(seen: Signals, triggers: Asked, current: int, expected: int) -> None:
    seen = replace(seen, asked=triggers)
    decision = decide(POLICY, ScaleBounds(min=0, max=5), seen, slots=4, current=current, now=NOW)
    assert decision.workers == expected
    assert decision.inputs["triggers"] == triggers.workers


def test_a_target_of_its_own_replaces_the_slots() -> None:
    policy = ScalingPolicy(target=2)
    decision = decide(policy, ScaleBounds(max=9), signals(in_flight=6), slots=4, current=1, now=NOW)
    assert decision.workers == 3


def test_a_number_set_by_hand_holds_until_its_end_and_beyond_the_bounds() -> None:
    bounds, override = ScaleBounds(min=1, max=2), Override(workers=4, until=NOW + 10)
    held = decide(POLICY, bounds, signals(), slots=4, current=1, now=NOW, override=override)
    over = decide(POLICY, bounds, signals(), slots=4, current=4, now=NOW + 10, override=override)
    assert held.workers == 4
    assert over.workers <= 2


def test_the_reason_names_the_bound_that_cut_the_answer() -> None:
    decision = decide(POLICY, ScaleBounds(max=2), signals(waiting=99), slots=4, current=1, now=NOW)
    assert decision.reason.endswith("(at most 2)")


@given(
    in_flight=st.integers(0, 500),
    waiting=st.integers(0, 500),
    extra_peak=st.integers(0, 500),
    idle_s=st.floats(0, 1_000),
    current=st.integers(0, 50),
    slots=st.integers(1, 64),
    low=st.integers(0, 5),
    span=st.integers(0, 60),
)
def test_decisions_stay_within_bounds_and_never_below_demand(
    in_flight: int, waiting: int, extra_peak: int, idle_s: float, current: int, slots: int, low: int, span: int
) -> None:
    bounds = ScaleBounds(min=low, max=low + span)
    seen = signals(in_flight, waiting, float(in_flight + waiting + extra_peak), idle_s)
    decision = decide(POLICY, bounds, seen, slots=slots, current=current, now=NOW)
    assert bounds.min <= decision.workers <= bounds.max
    needed = math.ceil((in_flight + waiting) / slots)
    assert decision.workers >= min(needed, bounds.max)
    again = decide(POLICY, bounds, seen, slots=slots, current=decision.workers, now=NOW)
    assert again.workers == decision.workers, "the same facts lead to the same number"


@given(
    in_flight=st.integers(0, 100),
    waiting=st.integers(0, 100),
    queued=st.integers(0, 1_000),
    running=st.integers(0, 100),
)
def test_each_task_counts_once_whether_it_waits_or_the_gateway_has_it(
    in_flight: int, waiting: int, queued: int, running: int
) -> None:
    bounds, policy = ScaleBounds(min=0, max=1_000), ScalingPolicy(target=1.0)
    seen = Signals(in_flight=in_flight, waiting=waiting, demand_peak=0.0, busy_at=NOW, queued=queued, running=running)
    wanted = decide(policy, bounds, seen, slots=1, current=0, now=NOW).workers
    # A task that runs is a request in flight, as soon as the gateway has reported it.
    assert wanted == min(1_000, max(in_flight, running) + waiting + queued)
    assert seen.held_up == waiting + queued

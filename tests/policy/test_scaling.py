"""The scaling decision, as a table and as properties."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.strategies import policies, readings_of_everything
from stoker.domain.endpoint import Override, ScaleBounds, ScalingPolicy
from stoker.domain.scaling import Auto, Concurrency, QueueLength, RequestRate, Schedule, Step
from stoker.policy.auto.estimates import Estimates, Setting
from stoker.policy.memory import Change, Memory, remembered
from stoker.policy.scaling import decide, told
from stoker.policy.signals import Reading, Signals

NOW = 1_000.0
POLICY = ScalingPolicy(scale_down_delay_s=60, idle_timeout_s=300)
EVERY_DAY = Schedule(start="* * * * *", end="0 0 1 1 *", workers=3)


def signals(in_flight: int = 0, waiting: int = 0, idle_s: float = 0.0) -> Signals:
    return Signals(in_flight=in_flight, waiting=waiting, busy_at=NOW - idle_s)


def after(peak: int, current: int) -> Memory:
    """So many were asked for half a minute ago."""
    return Memory(current=current, highs=((NOW - 30, peak),), lows=((NOW - 30, peak),))


@pytest.mark.parametrize(
    ("seen", "peak", "current", "expected"),
    [
        pytest.param(signals(waiting=1), 0, 0, 1, id="the first waiting request wakes an endpoint at zero"),
        pytest.param(signals(in_flight=4), 1, 1, 1, id="a full worker with nobody waiting is enough"),
        pytest.param(signals(in_flight=4, waiting=1), 1, 1, 2, id="one request too many asks for one more worker"),
        pytest.param(signals(waiting=40), 1, 1, 5, id="a burst is answered at once, up to the maximum"),
        pytest.param(signals(in_flight=1), 3, 3, 3, id="a recent peak holds what it needed"),
        pytest.param(signals(in_flight=1), 2, 3, 2, id="a lower peak lets one go"),
        pytest.param(signals(idle_s=10), 0, 3, 1, id="idle for a while leaves one worker"),
        pytest.param(signals(idle_s=299.9), 0, 1, 1, id="one worker stays until the idle timeout"),
        pytest.param(signals(idle_s=300), 0, 1, 0, id="the idle timeout leads to zero"),
        pytest.param(signals(idle_s=300), 2, 2, 0, id="the idle timeout does not wait for an old peak"),
        pytest.param(signals(), 0, 0, 0, id="zero without requests stays zero"),
        pytest.param(None, 3, 3, 3, id="without signals what is wanted stays"),
        pytest.param(None, 9, 9, 5, id="without signals bounds still hold"),
    ],
)
def test_the_number_of_workers_follows_requests(seen: Signals | None, peak: int, current: int, expected: int) -> None:
    bounds, memory = ScaleBounds(min=0, max=5), after(peak, current)
    decision = decide(POLICY, bounds, seen, slots=4, current=current, now=NOW, memory=memory)
    assert decision.workers == expected
    assert decision.reason


def test_a_target_of_its_own_replaces_the_slots() -> None:
    policy = ScalingPolicy(target=2)
    decision = decide(policy, ScaleBounds(max=9), signals(in_flight=6), slots=4, current=1, now=NOW)
    assert decision.workers == 3


def test_a_number_set_by_hand_holds_until_its_end_and_beyond_the_bounds() -> None:
    bounds, override = ScaleBounds(min=1, max=2), Override(workers=4, until=NOW + 10)
    held = decide(POLICY, bounds, signals(), slots=4, current=1, now=NOW, override=override)
    over = decide(POLICY, bounds, signals(), slots=4, current=4, now=NOW + 10, override=override)
    assert (held.workers, held.reason) == (4, "set by hand, for another 10 s")
    assert over.workers <= 2


def test_the_reason_names_the_bound_that_cut_the_answer() -> None:
    decision = decide(POLICY, ScaleBounds(max=2), signals(waiting=99), slots=4, current=1, now=NOW)
    assert decision.reason.endswith("(at most 2)")
    assert decision.limits == ("at most 2",)


def test_the_largest_demand_wins_and_the_reason_says_whose_it_was() -> None:
    policy = ScalingPolicy(triggers=(Concurrency(target=4), QueueLength(target=2)))
    decision = decide(policy, ScaleBounds(max=9), signals(waiting=8), slots=1, current=0, now=NOW)
    assert decision.workers == 4
    assert [(each.trigger, each.workers) for each in decision.triggers] == [("concurrency", 2), ("queue_length", 4)]
    assert decision.reason.startswith("queue_length: 8 in the queue")


def test_nothing_shrinks_while_one_trigger_cannot_know_but_the_others_still_grow_it() -> None:
    policy = ScalingPolicy(triggers=(Concurrency(target=1), RequestRate(target=1.0)))
    bounds, forgotten = ScaleBounds(max=9), Memory(current=5)
    fewer = decide(policy, bounds, signals(in_flight=1), slots=1, current=5, now=NOW, memory=forgotten)
    more = decide(policy, bounds, signals(in_flight=7), slots=1, current=5, now=NOW, memory=forgotten)
    assert (fewer.workers, more.workers) == (5, 7)
    assert "nothing is known for requests_per_s" in fewer.reason


def test_a_request_brings_a_worker_whatever_the_triggers_look_at() -> None:
    policy = ScalingPolicy(triggers=(RequestRate(target=100.0),))
    known = replace(signals(waiting=1), arrivals={60.0: Reading(0.0, 0.0)})
    decision = decide(policy, ScaleBounds(max=9), known, slots=1, current=0, now=NOW)
    assert decision.workers == 1
    assert "a request is there" in decision.reason


def test_a_schedule_holds_without_requests_and_without_the_gateway() -> None:
    policy = ScalingPolicy(triggers=(Concurrency(), EVERY_DAY))
    bounds = ScaleBounds(max=9)
    idle = decide(policy, bounds, signals(idle_s=9_999), slots=1, current=0, now=NOW)
    silent = decide(policy, bounds, None, slots=1, current=0, now=NOW)
    assert (idle.workers, silent.workers) == (3, 3)
    assert "3 workers from" in idle.reason


def test_growth_waits_until_it_was_wanted_for_the_whole_delay_but_never_from_zero() -> None:
    policy = ScalingPolicy(triggers=(Concurrency(),), scale_up_delay_s=30)
    bounds = ScaleBounds(max=9)
    since_lately = Memory(current=1, lows=((NOW - 10, 1),), highs=())
    for_long = Memory(current=1, lows=((NOW - 31, 1), (NOW, 4)), highs=())
    wait = decide(policy, bounds, signals(in_flight=16), slots=4, current=1, now=NOW, memory=since_lately)
    grow = decide(policy, bounds, signals(in_flight=16), slots=4, current=1, now=NOW, memory=for_long)
    first = decide(policy, bounds, signals(waiting=16), slots=4, current=0, now=NOW, memory=since_lately)
    assert (wait.workers, grow.workers, first.workers) == (1, 4, 4)


@pytest.mark.parametrize(
    ("steps", "changes", "expected"),
    [
        pytest.param((Step(workers=2),), (), 6, id="by so many"),
        pytest.param((Step(percent=50),), (), 6, id="by so many percent"),
        pytest.param((Step(workers=1), Step(percent=100)), (), 8, id="by the larger of two"),
        pytest.param((Step(workers=2),), (Change(NOW - 30, 2, 4),), 4, id="less what has changed within the period"),
        pytest.param((Step(workers=2),), (Change(NOW - 61, 2, 4),), 6, id="and not what has changed before"),
    ],
)
def test_growth_goes_in_steps(steps: tuple[Step, ...], changes: tuple[Change, ...], expected: int) -> None:
    policy, memory = ScalingPolicy(triggers=(Concurrency(),), scale_up_steps=steps), Memory(current=4, changes=changes)
    decision = decide(policy, ScaleBounds(max=99), signals(in_flight=40), slots=1, current=4, now=NOW, memory=memory)
    assert decision.workers == expected


def test_shrinking_goes_in_steps() -> None:
    policy = ScalingPolicy(scale_down_steps=(Step(workers=1),), scale_down_delay_s=0)
    memory = Memory(current=5)
    decision = decide(policy, ScaleBounds(max=99), signals(idle_s=900), slots=1, current=5, now=NOW, memory=memory)
    assert decision.workers == 4


@pytest.mark.parametrize(("ago_s", "grown", "shrunk"), [(19.0, 4, 4), (20.0, 6, 4), (40.0, 6, 1)])
def test_after_a_change_there_is_a_cooldown_in_each_direction(ago_s: float, grown: int, shrunk: int) -> None:
    policy = ScalingPolicy(scale_up_cooldown_s=20, scale_down_cooldown_s=40, scale_down_delay_s=0)
    memory = Memory(current=4, changes=(Change(NOW - ago_s, 2, 4),))
    bounds = ScaleBounds(max=99)
    up = decide(policy, bounds, signals(in_flight=6), slots=1, current=4, now=NOW, memory=memory)
    down = decide(policy, bounds, signals(in_flight=1), slots=1, current=4, now=NOW, memory=memory)
    assert (up.workers, down.workers) == (grown, shrunk)


def test_a_cooldown_never_keeps_the_first_request_waiting() -> None:
    policy = ScalingPolicy(triggers=(Concurrency(),), scale_up_cooldown_s=600)
    memory = Memory(current=0, changes=(Change(NOW - 1, 1, 0),))
    decision = decide(policy, ScaleBounds(max=9), signals(waiting=1), slots=1, current=0, now=NOW, memory=memory)
    assert decision.workers == 1


def test_where_zero_is_not_allowed_one_worker_stays() -> None:
    policy = ScalingPolicy(triggers=(Concurrency(),), to_zero=False)
    decision = decide(policy, ScaleBounds(max=9), signals(idle_s=9_999), slots=1, current=2, now=NOW)
    assert decision.workers == 1
    assert "never to zero" in decision.reason


def test_a_restart_forgets_no_demand() -> None:
    seen = signals(in_flight=1)
    first = decide(POLICY, ScaleBounds(max=9), seen, slots=1, current=6, now=NOW)
    memory = remembered(None, POLICY, first)
    soon = decide(POLICY, ScaleBounds(max=9), seen, slots=1, current=6, now=NOW + 59, memory=memory)
    later = decide(POLICY, ScaleBounds(max=9), seen, slots=1, current=6, now=NOW + 61, memory=memory)
    assert (first.workers, soon.workers, later.workers) == (6, 6, 1)


def test_advice_says_that_nobody_acts_on_it() -> None:
    policy = ScalingPolicy(triggers=(Concurrency(),), advisory=True)
    decision = decide(policy, ScaleBounds(max=9), signals(waiting=3), slots=1, current=0, now=NOW)
    assert (decision.advisory, decision.workers) == (True, 3)


@given(
    policy=policies,
    seen=st.none() | readings_of_everything,
    current=st.integers(0, 50),
    slots=st.integers(1, 64),
    low=st.integers(0, 5),
    span=st.integers(0, 60),
)
def test_whatever_decides_decisions_are_bounded_reasoned_and_settle(
    policy: ScalingPolicy, seen: Signals | None, current: int, slots: int, low: int, span: int
) -> None:
    bounds = ScaleBounds(min=low, max=low + span)
    memory = Memory.of(current, NOW)
    decision = decide(policy, bounds, seen, slots=slots, current=current, now=NOW, memory=memory)
    assert bounds.min <= decision.workers <= bounds.max
    assert decision.reason
    assert len(decision.triggers) == len(policy.effective)
    if seen is None:
        assert decision.workers >= min(current, bounds.max), "silence shrinks nothing"
    if seen is not None and seen.present and bounds.max:
        assert decision.workers > 0, "who is there is served"
    if decision.workers < current <= bounds.max and seen is not None and seen.present:
        assert all(each.workers is not None for each in decision.triggers), "what is unknown shrinks nothing"
    same = decide(policy, bounds, seen, slots=slots, current=current, now=NOW, memory=memory)
    assert same == decision, "the same facts lead to the same answer"


@given(
    in_flight=st.integers(0, 500),
    waiting=st.integers(0, 500),
    peak=st.integers(0, 500),
    idle_s=st.floats(0, 1_000),
    current=st.integers(0, 50),
    slots=st.integers(1, 64),
    low=st.integers(0, 5),
    span=st.integers(0, 60),
)
def test_concurrency_is_never_below_demand_and_settles_at_once(
    in_flight: int, waiting: int, peak: int, idle_s: float, current: int, slots: int, low: int, span: int
) -> None:
    bounds, memory = ScaleBounds(min=low, max=low + span), after(peak, current)
    seen = signals(in_flight, waiting, idle_s)
    decision = decide(POLICY, bounds, seen, slots=slots, current=current, now=NOW, memory=memory)
    needed = math.ceil((in_flight + waiting) / slots)
    assert decision.workers >= min(needed, bounds.max)
    memory = remembered(memory, POLICY, decision)
    again = decide(POLICY, bounds, seen, slots=slots, current=decision.workers, now=NOW, memory=memory)
    assert again.workers == decision.workers


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
    seen = Signals(in_flight=in_flight, waiting=waiting, busy_at=NOW, queued=queued, running=running)
    wanted = decide(policy, bounds, seen, slots=1, current=0, now=NOW).workers
    # A task that runs is a request in flight, as soon as the gateway has reported it.
    assert wanted == min(1_000, max(in_flight, running) + waiting + queued)
    assert seen.held_up == waiting + queued


def test_a_decision_records_what_it_saw_of_the_queue() -> None:
    seen = Signals(
        in_flight=2,
        waiting=0,
        busy_at=NOW,
        queued=3,
        running=2,
        tasks_queued=Reading(5.0, 0.5),
        oldest_task_s=Reading(7.5, 0.5),
        tasks_per_s=Reading(0.5, 0.5),
    )
    decision = told(decide(POLICY, ScaleBounds(max=9), seen, slots=1, current=1, now=NOW), seen)
    assert decision.workers == 5, (
        "two that run are the two in flight, three could go now, two wait for their next attempt"
    )
    said = {
        name: decision.inputs[name] for name in ("running", "queued", "tasks_queued", "oldest_task_s", "tasks_per_s")
    }
    assert said == {"running": 2, "queued": 3, "tasks_queued": 5, "oldest_task_s": 7.5, "tasks_per_s": 0.5}
    bare = signals()
    assert "tasks_queued" not in told(decide(POLICY, ScaleBounds(), bare, slots=1, current=1, now=NOW), bare).inputs


def learned(**values: int) -> Signals:
    """What `auto` is told: two workers are worth being kept for an endpoint that nobody asks."""
    it = Estimates(
        in_flight=0,
        waiting=values.get("waiting", 0),
        ready=2,
        active=2,
        busy=0,
        cold=0,
        loading=False,
        start_s=60.0,
        start_left_s=60.0,
        arrived=0,
        service_s=5.0,
        service_known=True,
        kept=values.get("kept", 2),
    )
    return Signals(in_flight=0, waiting=it.waiting, busy_at=NOW - 400, auto=(it, Setting(slots=1, workers_max=9)))


@pytest.mark.parametrize(
    ("policy", "signals", "expected"),
    [
        pytest.param(ScalingPolicy(), learned(), 2, id="as long as it is worth it"),
        pytest.param(ScalingPolicy(), learned(kept=0), 0, id="and not for longer"),
        pytest.param(ScalingPolicy(), learned(kept=0, waiting=1), 1, id="a request has a worker"),
        pytest.param(
            ScalingPolicy(triggers=(Auto(),), idle_timeout_s=300), learned(), 0, id="until a time that is said"
        ),
        pytest.param(
            ScalingPolicy(triggers=(Auto(),), idle_timeout_s=500), learned(kept=0), 1, id="one until that time"
        ),
        pytest.param(ScalingPolicy(triggers=(Auto(),), scale_down_delay_s=60), learned(kept=0), 3, id="a delay holds"),
        pytest.param(ScalingPolicy(), None, 3, id="nothing shrinks on silence"),
    ],
)
def test_what_learns_judges_itself_how_long_workers_stay(
    policy: ScalingPolicy, signals: Signals | None, expected: int
) -> None:
    lately = ((NOW - 30, 3),) if policy.scale_down_delay_s else ()
    memory = Memory(current=3, highs=lately)
    decision = decide(policy, ScaleBounds(max=9), signals, slots=1, current=3, now=NOW, memory=memory)
    assert decision.workers == expected


@given(
    course=st.lists(st.tuples(st.floats(0.1, 20), st.integers(0, 40)), min_size=1, max_size=60),
    up=st.integers(1, 4),
    down=st.integers(1, 4),
)
def test_within_any_period_the_number_changes_by_no_more_than_its_steps(
    course: list[tuple[float, int]], up: int, down: int
) -> None:
    policy = ScalingPolicy(
        triggers=(Concurrency(target=1.0),),
        scale_down_delay_s=0.0,
        idle_timeout_s=3_600.0,
        scale_up_steps=(Step(workers=up, period_s=60.0),),
        scale_down_steps=(Step(workers=down, period_s=60.0),),
    )
    now, current, memory = 0.0, 1, None
    changes: list[tuple[float, int]] = []
    for pause_s, present in course:
        now += pause_s
        seen = Signals(in_flight=present, waiting=0, busy_at=now)
        made = decide(policy, ScaleBounds(max=99), seen, slots=1, current=current, now=now, memory=memory)
        memory = remembered(memory, policy, made)
        if made.workers != current:
            changes.append((now, made.workers - current))
        current = made.workers
    for begin, _ in changes:
        # A change counts from the decision after it on, which is a little later.
        span = [by for at, by in changes if begin <= at < begin + 60.0]
        assert sum(by for by in span if by > 0) <= up
        assert -sum(by for by in span if by < 0) <= down

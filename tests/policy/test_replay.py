"""Whatever decided, what is recorded of it leads to it again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policy.strategies import policies, readings_of_everything
from stoker.domain.endpoint import Override, ScaleBounds
from stoker.domain.operation import Decision
from stoker.domain.scaling import ScalingPolicy
from stoker.policy.memory import Memory, remembered
from stoker.policy.replay import Given, again, of_recorded, recorded
from stoker.policy.scaling import Signals, decide

moments = st.lists(
    st.tuples(st.floats(0.01, 50), st.none() | readings_of_everything, st.integers(0, 9)), min_size=1, max_size=5
)
overrides = st.none() | st.builds(Override, workers=st.integers(0, 9), until=st.none() | st.floats(0, 500))


@given(policies, moments, overrides, st.integers(1, 8), st.floats(0, 1_000))
def test_what_is_recorded_leads_to_the_same_decision(
    policy: ScalingPolicy,
    course: list[tuple[float, Signals | None, int]],
    override: Override | None,
    slots: int,
    now: float,
) -> None:
    bounds, memory = ScaleBounds(min=0, max=12), None
    for pause_s, signals, current in course:
        now += pause_s
        made = decide(policy, bounds, signals, slots=slots, current=current, now=now, override=override, memory=memory)
        document = recorded(
            Given(policy=policy, bounds=bounds, slots=slots, signals=signals, override=override, memory=memory)
        )
        found = of_recorded(document)
        assert (found.policy, found.signals, found.memory) == (policy, signals, memory)
        assert again(found, made) == made
        memory = remembered(memory, policy, made)


def test_what_is_remembered_of_windows_and_changes_is_recorded() -> None:
    policy = ScalingPolicy(scale_down_delay_s=60.0, scale_down_cooldown_s=20.0)
    memory = Memory.of(5, 100.0)
    idle = Signals(in_flight=0, waiting=0, busy_at=110.0)
    made = decide(policy, ScaleBounds(max=9), idle, slots=1, current=5, now=120.0, memory=memory)
    assert made.workers == 5
    known = Given(policy=policy, bounds=ScaleBounds(max=9), slots=1, signals=idle, memory=memory)
    forgotten = Given(policy=policy, bounds=ScaleBounds(max=9), slots=1, signals=idle, memory=Memory(current=5))
    assert again(of_recorded(recorded(known)), made) == made
    assert again(of_recorded(recorded(forgotten)), made).workers < 5
    assert len(recorded(known)) < 4_096


def test_a_decision_that_was_made_without_triggers_has_nothing_to_go_by() -> None:
    assert Decision(at=0.0, current=1, workers=0, reason="makes way").given is None

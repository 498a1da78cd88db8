"""What decisions remember: the highest and lowest numbers of a window, and changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.operation import Decision, Demand
from stoker.domain.scaling import ScalingPolicy, Step
from stoker.policy.memory import CHANGES_MAX, Memory, remembered

WINDOW_S = 60.0
POLICY = ScalingPolicy(scale_down_delay_s=WINDOW_S, scale_up_delay_s=WINDOW_S, scale_up_steps=(Step(workers=1),))


def asked(at: float, workers: int | None, current: int = 0) -> Decision:
    demand = Demand(trigger="concurrency", workers=workers)
    return Decision(at=at, current=current, workers=current, reason="r", triggers=(demand,))


@given(st.lists(st.tuples(st.floats(0.01, 40.0), st.integers(0, 20)), min_size=1, max_size=100))
def test_the_highest_and_the_lowest_of_the_window_are_known_exactly(steps: list[tuple[float, int]]) -> None:
    now, memory, history = 0.0, Memory.of(3, 0.0), [(0.0, 3)]
    for pause_s, number in steps:
        now += pause_s
        memory = remembered(memory, POLICY, asked(now, number))
        history.append((now, number))
        within = [each for at, each in history if at >= now - WINDOW_S]
        assert memory.highest(now - WINDOW_S) == max(within)
        assert memory.lowest(now - WINDOW_S) == min(within)
        assert len(memory.highs) <= 21


def test_what_could_not_be_known_is_not_remembered_as_nothing() -> None:
    memory = remembered(Memory.of(3, 0.0), POLICY, asked(1.0, None, current=3))
    assert (memory.highest(0.0), memory.lowest(0.0)) == (3, 3)


def test_changes_are_counted_in_both_directions_and_kept_as_long_as_steps_need() -> None:
    memory = Memory.of(1, 0.0)
    for at, current in ((10.0, 4), (20.0, 2), (30.0, 3)):
        memory = remembered(memory, POLICY, asked(at, 1, current=current))
    assert memory.changed_by(0.0) == (4, 2)
    assert memory.changed_by(10.0) == (1, 2)
    assert memory.changed_at == 30.0
    memory = remembered(memory, POLICY, asked(85.0, 1, current=3))
    assert [change.at for change in memory.changes] == [30.0]


def test_memory_is_bounded_whatever_changes() -> None:
    memory = Memory.of(0, 0.0)
    for step in range(3 * CHANGES_MAX):
        memory = remembered(memory, POLICY, asked(step / 1_000, 0, current=step % 2))
    assert len(memory.changes) <= CHANGES_MAX + 1

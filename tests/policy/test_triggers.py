"""What triggers ask for, as a table and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.triggers import Rate, Resource, SqsQueue, Triggers
from stoker.policy.triggers import Readings, wanted

CPU = Triggers(utilization={Resource.CPU: 0.8})


def queue() -> SqsQueue:
    return SqsQueue(
        url="https://sqs.test/1/q", endpoint="https://sqs.test", region="r", secret="s", messages=10, activation=5
    )


@pytest.mark.parametrize(
    ("triggers", "readings", "current", "workers"),
    [
        pytest.param(CPU, Readings(ready=2, shares={Resource.CPU: 1.2}), 2, 3, id="above its target asks for more"),
        pytest.param(CPU, Readings(ready=4, shares={Resource.CPU: 0.4}), 4, 2, id="below asks for fewer"),
        pytest.param(
            CPU, Readings(ready=3, shares={Resource.CPU: 0.86}), 3, 3, id="near its target asks for no change"
        ),
        pytest.param(CPU, Readings(ready=3), 3, 0, id="what is not measured asks for nothing"),
        pytest.param(CPU, Readings(ready=0, shares={Resource.CPU: 1.0}), 0, 0, id="nobody ready asks for nothing"),
        pytest.param(
            Triggers(utilization={Resource.CPU: 0.5, Resource.MEMORY: 0.5}),
            Readings(ready=2, shares={Resource.CPU: 0.1, Resource.MEMORY: 1.0}),
            2,
            4,
            id="the largest wins",
        ),
        pytest.param(
            Triggers(rate=Rate(requests=10, window_s=60)), Readings(ready=1, arrivals=31), 1, 4, id="a rate of requests"
        ),
        pytest.param(Triggers(rate=Rate(requests=10, window_s=60)), Readings(ready=1), 1, 0, id="an unknown rate"),
        pytest.param(Triggers(queues=(queue(),)), Readings(ready=0, messages=(4,)), 0, 0, id="too few to leave zero"),
        pytest.param(Triggers(queues=(queue(),)), Readings(ready=0, messages=(5,)), 0, 1, id="enough to leave zero"),
        pytest.param(Triggers(queues=(queue(),)), Readings(ready=1, messages=(1,)), 1, 1, id="few hold one that is"),
        pytest.param(Triggers(queues=(queue(),)), Readings(ready=1, messages=(25,)), 1, 3, id="a worker for so many"),
        pytest.param(Triggers(queues=(queue(),)), Readings(ready=1, messages=(0,)), 1, 0, id="an empty queue"),
        pytest.param(Triggers(queues=(queue(),)), Readings(ready=1, messages=(None,)), 1, 0, id="an unknown queue"),
    ],
)
def test_triggers_ask_for_workers(triggers: Triggers, readings: Readings, current: int, workers: int) -> None:
    asked = wanted(triggers, readings, current=current)
    assert asked.workers == workers
    assert bool(asked.reason) == (workers > 0)


def test_only_a_queue_with_work_keeps_workers_from_being_idle() -> None:
    assert wanted(Triggers(queues=(queue(),)), Readings(ready=1, messages=(1,)), current=1).backlog
    assert not wanted(Triggers(queues=(queue(),)), Readings(ready=0, messages=(1,)), current=0).backlog
    assert not wanted(CPU, Readings(ready=1, shares={Resource.CPU: 2.0}), current=1).backlog


@given(st.integers(0, 100), st.floats(0, 10), st.floats(0, 10), st.floats(0.01, 1))
def test_more_load_never_asks_for_fewer(ready: int, low: float, more: float, target: float) -> None:
    triggers = Triggers(utilization={Resource.CPU: target})

    def asked(share: float) -> int:
        return wanted(triggers, Readings(ready=ready, shares={Resource.CPU: share}), current=ready).workers

    assert 0 <= asked(low) <= max(asked(low + more), ready)


@given(st.lists(st.none() | st.integers(0, 10**9), max_size=3), st.integers(0, 5))
def test_each_queue_has_its_workers(messages: list[int | None], current: int) -> None:
    triggers = Triggers(queues=tuple(queue() for _ in messages))
    asked = wanted(triggers, Readings(ready=current, messages=messages), current=current)
    known = [count for count in messages if count and (current or count >= 5)]
    assert asked.backlog == bool(known)
    assert all(asked.workers * 10 >= count for count in known)

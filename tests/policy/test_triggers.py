"""What each trigger asks for, as a table; what it cannot know; properties of those that look at workers."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policy.strategies import QUEUE, WINDOWS, triggers
from stoker.domain.measurements import STALE_S
from stoker.domain.scaling import (
    AnyTrigger,
    Concurrency,
    Cpu,
    Custom,
    GpuMemory,
    GpuUtilization,
    HttpRate,
    Load,
    LoadUnit,
    Memory,
    QueueDelay,
    QueueLength,
    RequestRate,
    Schedule,
    Trigger,
)
from stoker.policy.signals import Reading, Signals, WorkerSignals, custom_key
from stoker.policy.triggers import Evidence, demand

NOW = 1_000.0
NOON = 12 * 3_600.0


def known(**values: Any) -> Signals:
    return Signals(**{"in_flight": 0, "waiting": 0, "busy_at": NOW, **values})


def rate(per_s: float, window_s: float = 60.0) -> dict[str, dict[float, Reading]]:
    return {"arrivals": {window_s: Reading(per_s, 0.2)}}


def said(per_s: float, *, perf: float, waiting: float = 0.0) -> dict[str, Any]:
    """What requests and workers said of the load."""
    found = {"announced_per_s": per_s, "announced_waiting": waiting, "announced_perf": perf}
    return {name: Reading(value, 0.0) for name, value in found.items()}


def using(*cpus: float | None, age_s: float = 1.0) -> tuple[WorkerSignals, ...]:
    return tuple(
        WorkerSignals(number=n, cpu=None if cpu is None else Reading(cpu, age_s)) for n, cpu in enumerate(cpus)
    )


DEPTH = custom_key("/stats", "/queue/depth")
CARD = WorkerSignals(number=1, gpu_utilization=Reading(0.9, 1.0), gpu_memory=Reading(0.2, 1.0))
FULL = WorkerSignals(number=1, memory=Reading(0.8, 1.0))
DEEP = WorkerSignals(number=1, custom={DEPTH: Reading(25.0, 1.0)})


@pytest.mark.parametrize(
    ("trigger", "signals", "expected"),
    [
        pytest.param(Concurrency(), known(in_flight=9, waiting=3), 3, id="one worker for its slots"),
        pytest.param(Concurrency(utilization=0.5), known(in_flight=9), 5, id="or for a part of them"),
        pytest.param(
            Concurrency(target=2, window_s=60),
            known(in_flight=9, presence={60.0: Reading(3.0, 0.1)}),
            2,
            id="an average",
        ),
        pytest.param(RequestRate(target=2), known(**rate(5.0)), 3, id="requests in a second"),
        pytest.param(HttpRate(rate=100, window_s=30), known(**rate(5.0, 30.0)), 2, id="requests in a window"),
        pytest.param(QueueDelay(threshold_s=4), known(in_flight=4, waiting=9, oldest_wait_s=4.0), 1, id="in time"),
        pytest.param(QueueDelay(threshold_s=4), known(in_flight=4, waiting=9, oldest_wait_s=4.1), 4, id="too late"),
        pytest.param(
            QueueDelay(threshold_s=4),
            known(queued=8, oldest_task_s=Reading(60.0, 1.0)),
            2,
            id="tasks that wait count too",
        ),
        pytest.param(QueueLength(target=5), known(in_flight=4, waiting=3, queued=4), 3, id="the whole queue"),
        pytest.param(QueueLength(target=5, in_flight=False), known(in_flight=4, waiting=7), 2, id="who waits alone"),
        pytest.param(QueueLength(target=5, tolerated=3), known(in_flight=4, waiting=8), 2, id="some may wait"),
        pytest.param(QueueLength(target=1, activation=3), known(waiting=3), 0, id="not enough to begin with"),
        pytest.param(QueueLength(target=1, activation=3), known(waiting=4), 4, id="enough"),
        pytest.param(Load(perf=10, target_util=0.5), known(**rate(12.0)), 3, id="load over used performance"),
        pytest.param(Load(perf=10, min_load=100), known(**rate(1.0)), 12, id="the least load"),
        pytest.param(Load(), known(**rate(9.0), requests_per_s=Reading(2.0, 9_999.0)), 5, id="measured performance"),
        pytest.param(
            Load(unit=LoadUnit.TOKENS, perf=100, target_util=1),
            known(**rate(3.0), completion_tokens=Reading(120.0, 500.0)),
            4,
            id="load in tokens",
        ),
        pytest.param(QUEUE, known(messages={QUEUE: Reading(35.0, 20.0)}), 4, id="messages in a queue"),
        pytest.param(QUEUE, known(messages={QUEUE: Reading(1.0, 1.0)}), 1, id="few of them for who is there"),
        pytest.param(Load(unit=LoadUnit.ANNOUNCED), known(**said(900, perf=500)), 2, id="announced load"),
        pytest.param(Load(unit=LoadUnit.ANNOUNCED), known(**said(0, waiting=3_000, perf=100)), 3, id="announced queue"),
        pytest.param(Cpu(threshold=50), known(workers=using(0.9, 0.9)), 4, id="twice as much as wanted"),
        pytest.param(Cpu(threshold=80), known(workers=using(0.75, 0.85)), 2, id="within the tolerance"),
        pytest.param(Cpu(threshold=80), known(workers=using(0.1, 0.1, 0.1)), 1, id="much less than wanted"),
        pytest.param(Cpu(threshold=50), known(workers=using(1.0, None)), 2, id="on the way up the missing is idle"),
        pytest.param(Cpu(threshold=50), known(workers=using(0.0, None)), 1, id="on the way down it is on target"),
        pytest.param(Memory(threshold=40), known(workers=(FULL,)), 2, id="memory"),
        pytest.param(GpuUtilization(threshold=30), known(workers=(CARD,)), 3, id="cards"),
        pytest.param(GpuMemory(threshold=80), known(workers=(CARD, CARD, CARD, CARD)), 1, id="memory of cards"),
        pytest.param(Custom(path="/stats", pointer="/queue/depth", target=10), known(workers=(DEEP,)), 3, id="own"),
    ],
)
def test_a_trigger_asks_for_what_its_numbers_need(trigger: AnyTrigger, signals: Signals, expected: int) -> None:
    asked = demand(trigger, Evidence(now=NOW, slots=4, current=2, signals=signals))
    assert asked.workers == expected
    assert asked.trigger == trigger.type
    assert asked.text


@pytest.mark.parametrize(
    ("trigger", "signals", "why"),
    [
        pytest.param(Concurrency(), None, "the gateway is silent", id="silence"),
        pytest.param(RequestRate(target=1), known(), "nothing was counted so far", id="too early"),
        pytest.param(Load(), known(**rate(1.0)), "no worker has been full so far", id="no performance"),
        pytest.param(Load(unit=LoadUnit.TOKENS), known(**rate(1.0)), "no answer has told its tokens", id="no tokens"),
        pytest.param(QUEUE, known(), "the queue could not be read", id="a queue that does not answer"),
        pytest.param(Cpu(), known(), "no worker is ready", id="nobody to ask"),
        pytest.param(Cpu(), known(workers=using(None)), "nothing was measured so far", id="nothing measured"),
        pytest.param(Cpu(), known(workers=using(0.0, age_s=STALE_S + 1)), "the last numbers are too old", id="stale"),
    ],
)
def test_what_is_not_known_is_not_zero(trigger: AnyTrigger, signals: Signals | None, why: str) -> None:
    asked = demand(trigger, Evidence(now=NOW, slots=4, current=2, signals=signals))
    assert asked.workers is None
    assert why in asked.text


def test_load_says_how_many_are_to_be_ready_or_cold() -> None:
    trigger = Load(perf=10, cold_mult=3, cold_workers=2, target_util=1)
    for per_s, workers, held in ((0.0, 0, 2), (10.0, 1, 3), (40.0, 4, 12)):
        asked = demand(trigger, Evidence(now=NOW, slots=1, current=0, signals=known(**rate(per_s))))
        assert (asked.workers, asked.held) == (workers, held)


def test_a_schedule_asks_for_its_number_while_it_is_open_and_needs_no_signals() -> None:
    trigger = Schedule(start="0 8 * * *", end="0 20 * * *", workers=3)
    during = demand(trigger, Evidence(now=NOON, slots=1, current=0, signals=None))
    after = demand(trigger, Evidence(now=2 * NOON - 1, slots=1, current=0, signals=None))
    assert (during.workers, after.workers, during.settled) == (3, 0, True)


def test_a_queue_has_to_have_enough_to_wake_anybody() -> None:
    for count, expected in ((4.0, 0), (5.0, 1), (35.0, 4)):
        signals = known(messages={QUEUE: Reading(count, 1.0)})
        assert demand(QUEUE, Evidence(now=NOW, slots=4, current=0, signals=signals)).workers == expected


def test_every_trigger_has_a_rule() -> None:
    for trigger in get_args(AnyTrigger):
        assert demand.dispatch(trigger) is not demand.dispatch(Trigger), trigger


@given(shares=st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=20), threshold=st.floats(1, 100))
def test_a_share_asks_for_what_brings_it_to_the_threshold(shares: list[float | None], threshold: float) -> None:
    signals = known(workers=using(*shares))
    asked = demand(Cpu(threshold=threshold, tolerance=0), Evidence(now=NOW, slots=1, current=9, signals=signals))
    there = [share for share in shares if share is not None]
    if not there:
        assert asked.workers is None
        return
    assert asked.workers is not None
    least = math.ceil(sum(there) / (threshold / 100) - 1e-6)
    # The missing are counted in the direction that changes less.
    assert min(least, len(shares)) <= asked.workers <= max(least, len(shares))


@given(st.integers(0, 1_000), st.integers(0, 1_000), st.floats(0.1, 100))
def test_more_requests_never_ask_for_fewer_workers(few: int, more: int, target: float) -> None:
    both = [
        demand(trigger, Evidence(now=NOW, slots=3, current=0, signals=known(waiting=count, oldest_wait_s=60.0)))
        for count in (few, few + more)
        for trigger in (Concurrency(target=target), QueueLength(target=target), QueueDelay())
    ]
    assert all(
        a.workers <= b.workers
        for a, b in zip(both[:3], both[3:], strict=True)
        if a.workers is not None and b.workers is not None
    )


@example(trigger=Cpu(threshold=1.0), value=-1.7e308, age_s=0.0, current=1)
@example(trigger=Cpu(threshold=1.0), value=1.7e308, age_s=0.0, current=1)
@given(
    trigger=triggers,
    value=st.floats(allow_nan=False, allow_infinity=False),
    age_s=st.floats(0, 20),
    current=st.integers(0, 9),
)
def test_no_number_that_anybody_tells_stops_others_from_being_decided_for(
    trigger: AnyTrigger, value: float, age_s: float, current: int
) -> None:
    said = Reading(value, age_s)
    worker = WorkerSignals(
        number=1,
        cpu=said,
        memory=said,
        gpu_utilization=said,
        gpu_memory=said,
        custom={custom_key("/stats", "depth"): said},
    )
    signals = Signals(
        in_flight=1,
        waiting=1,
        busy_at=0.0,
        arrivals=dict.fromkeys(WINDOWS, said),
        presence=dict.fromkeys(WINDOWS, said),
        messages={QUEUE: said},
        completion_tokens=said,
        requests_per_s=said,
        tokens_per_s=said,
        announced_per_s=said,
        announced_waiting=said,
        announced_perf=said,
        oldest_task_s=said,
        workers=(worker, worker),
    )
    asked = demand(trigger, Evidence(now=0.0, slots=2, current=current, signals=signals))
    assert asked.workers is None or 0 <= asked.workers <= 1e9

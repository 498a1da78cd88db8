"""Triggers and what holds for all of them: nothing that makes no sense can be."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from msgspec import structs

from policy.strategies import QUEUE, policies
from stoker.domain.endpoint import EndpointSpec
from stoker.domain.errors import Invalid
from stoker.domain.launch import LaunchSpec
from stoker.domain.scaling import (
    TRIGGERS_MAX,
    Auto,
    Concurrency,
    Cpu,
    Custom,
    GpuMemory,
    HttpRate,
    Load,
    Memory,
    QueueDelay,
    QueueLength,
    RequestRate,
    ScalingPolicy,
    Schedule,
    Step,
)

NAN = float("nan")
MORNING = Schedule(start="0 8 * * *", end="0 12 * * *", workers=1)
NOON = Schedule(start="0 11 * * *", end="0 13 * * *", workers=1)


@pytest.mark.parametrize(
    ("make", "pointer"),
    [
        (lambda: Auto(late_cost=-1.0), "/late_cost"),
        (lambda: Auto(wait_target_s=0.0), "/wait_target_s"),
        (lambda: Auto(cold_cost=1.5), "/cold_cost"),
        (lambda: ScalingPolicy(triggers=(Auto(), Concurrency(), Auto())), "/scaling/triggers/2"),
        (lambda: Concurrency(target=0.0), "/target"),
        (lambda: Concurrency(utilization=1.1), "/utilization"),
        (lambda: Concurrency(window_s=NAN), "/window_s"),
        (lambda: RequestRate(target=0.0), "/target"),
        (lambda: QueueDelay(threshold_s=0.4), "/threshold_s"),
        (lambda: QueueLength(target=1, activation=-1), "/activation"),
        (lambda: QueueLength(target=1, tolerated=-1), "/tolerated"),
        (lambda: Load(perf=0.0), "/perf"),
        (lambda: Load(target_util=0.0), "/target_util"),
        (lambda: Load(cold_mult=0.5), "/cold_mult"),
        (lambda: Cpu(threshold=0.5), "/threshold"),
        (lambda: GpuMemory(threshold=101.0), "/threshold"),
        (lambda: HttpRate(rate=1.0, window_s=0.5), "/window_s"),
        (lambda: Custom(path="stats", metric="m", target=1.0), "/path"),
        (lambda: Custom(path="/a b", metric="m", target=1.0), "/path"),
        (lambda: Custom(path="/a", target=1.0), "/metric"),
        (lambda: Custom(path="/a", metric="m", pointer="/p", target=1.0), "/metric"),
        (lambda: Custom(path="/a", metric="no metric", target=1.0), "/metric"),
        (lambda: Custom(path="/a", pointer="depth", target=1.0), "/pointer"),
        (lambda: Custom(path="/a", pointer="/de~2pth", target=1.0), "/pointer"),
        (lambda: Schedule(start="0 8 * * *", end="0 9 * * *", workers=0), "/workers"),
        (lambda: structs.replace(QUEUE, url=""), "/url"),
        (lambda: structs.replace(QUEUE, endpoint="sqs.test"), "/endpoint"),
        (lambda: structs.replace(QUEUE, messages=0), "/messages"),
        (lambda: structs.replace(QUEUE, every_s=1.0), "/every_s"),
        (lambda: Step(), "/workers"),
        (lambda: Step(workers=1, percent=5.0), "/workers"),
        (lambda: Step(percent=0.0), "/percent"),
        (lambda: ScalingPolicy(initial=-1), "/scaling/initial"),
        (lambda: ScalingPolicy(scale_up_cooldown_s=-1.0), "/scaling/scale_up_cooldown_s"),
        (lambda: ScalingPolicy(triggers=(Concurrency(),), target=2.0), "/scaling/target"),
        (lambda: ScalingPolicy(triggers=(Concurrency(),) * (TRIGGERS_MAX + 1)), "/scaling/triggers"),
        (lambda: ScalingPolicy(scale_up_steps=(Step(workers=1),) * 9), "/scaling/scale_up_steps"),
        (lambda: ScalingPolicy(triggers=(MORNING, Concurrency(), NOON)), "/scaling/triggers/2"),
        (lambda: spec(Memory()), "/scaling/triggers/0"),
        (lambda: spec(Concurrency(), GpuMemory()), "/scaling/triggers/1"),
    ],
)
def test_what_makes_no_sense_cannot_be(make: Callable[[], object], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        make()
    [problem] = caught.value.problems
    assert problem.pointer == pointer
    assert len(problem.detail) < 200


def spec(*triggers: Concurrency | Memory | GpuMemory) -> EndpointSpec:
    return EndpointSpec(name="e", launch=LaunchSpec(command=("c",)), scaling=ScalingPolicy(triggers=triggers))


@given(policies)
def test_a_policy_comes_back_from_the_store_as_it_went_in(policy: ScalingPolicy) -> None:
    assert msgspec.json.decode(msgspec.json.encode(policy), type=ScalingPolicy) == policy


def test_a_policy_from_before_there_were_triggers_still_means_what_it_meant() -> None:
    stored = b'{"target":3.0,"scale_down_delay_s":60.0,"idle_timeout_s":300.0}'
    policy = msgspec.json.decode(stored, type=ScalingPolicy)
    assert policy.effective == (Concurrency(target=3.0),)


@pytest.mark.parametrize(
    ("policy", "trigger"),
    [
        (ScalingPolicy(), Auto()),
        (ScalingPolicy(initial=2, to_zero=False, scale_up_cooldown_s=9.0), Auto()),
        (ScalingPolicy(target=3.0), Concurrency(target=3.0)),
        (ScalingPolicy(idle_timeout_s=300.0), Concurrency()),
        (ScalingPolicy(scale_down_delay_s=60.0), Concurrency()),
        (ScalingPolicy(triggers=(Auto(late_cost=9.0),), idle_timeout_s=60.0), Auto(late_cost=9.0)),
    ],
)
def test_without_triggers_it_learns_unless_something_of_concurrency_is_said(
    policy: ScalingPolicy, trigger: Auto | Concurrency
) -> None:
    assert policy.effective == (trigger,)
    assert policy.auto == (trigger if isinstance(trigger, Auto) else None)

"""Triggers that make no sense do not exist."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stoker.domain.errors import Invalid
from stoker.domain.triggers import QUEUES_MAX, Rate, Resource, SqsQueue, Triggers


def queue(**more: object) -> SqsQueue:
    values = {"url": "u", "endpoint": "https://e", "region": "r", "secret": "s", "messages": 1, **more}
    return SqsQueue(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "pointer"),
    [
        (lambda: Triggers(utilization={Resource.CPU: 80}), "/scaling/triggers/utilization/cpu"),
        (lambda: Triggers(utilization={Resource.GPU_MEMORY: 0}), "/scaling/triggers/utilization/gpu_memory"),
        (lambda: Triggers(every_s=1), "/scaling/triggers/every_s"),
        (lambda: Triggers(queues=(queue(),) * (QUEUES_MAX + 1)), "/scaling/triggers/queues"),
        (lambda: Rate(requests=0, window_s=1), "/scaling/triggers/rate/requests"),
        (lambda: Rate(requests=1, window_s=0), "/scaling/triggers/rate/window_s"),
        (lambda: queue(endpoint="sqs"), "/scaling/triggers/queues/endpoint"),
        (lambda: queue(region=""), "/scaling/triggers/queues/region"),
        (lambda: queue(url="a\nb"), "/scaling/triggers/queues/url"),
        (lambda: queue(messages=0), "/scaling/triggers/queues/messages"),
        (lambda: queue(activation=0), "/scaling/triggers/queues/activation"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(make: Callable[[], object], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        make()
    assert [problem.pointer for problem in refused.value.problems] == [pointer]


def test_without_any_there_are_none() -> None:
    assert not Triggers()
    assert Triggers(queues=(queue(),))

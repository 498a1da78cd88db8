"""What a task may be: states that go one way, and drafts that refuse to exist when they make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from stoker.domain.errors import Invalid
from stoker.domain.queueing import QueueSpec, RetryPolicy, WebhooksSpec
from stoker.domain.task import FINAL, TRANSITIONS, TaskDraft, TaskState, WebhookSpec


def test_final_states_never_change_and_nothing_that_runs_expires() -> None:
    assert {*FINAL} == {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED}
    assert all(not TRANSITIONS[state] for state in FINAL)
    assert TaskState.EXPIRED not in TRANSITIONS[TaskState.RUNNING]
    assert {*TRANSITIONS} == {*TaskState}


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"id": "with a blank"}, "/id"),
        ({"id": "x" * 256}, "/id"),
        ({"method": "post"}, "/method"),
        ({"target": "relative"}, "/path"),
        ({"target": "/with a blank"}, "/path"),
        ({"target": "/part#of"}, "/path"),
        ({"priority": 1_001}, "/priority"),
        ({"ttl_s": 0.0}, "/ttl_s"),
        ({"execution_timeout_s": 0.0}, "/execution_timeout_s"),
        ({"headers": (("Host", "x"),)}, "/headers/Host"),
        ({"headers": (("X-Stoker-Worker", "w"),)}, "/headers/X-Stoker-Worker"),
        ({"headers": (("a b", "x"),)}, "/headers"),
        ({"headers": (("A", "line\nbreak"),)}, "/headers/A"),
        ({"content_type": "text/plain\r\nA: b"}, "/content_type"),
    ],
)
def test_a_draft_that_makes_no_sense_is_refused_at_its_place(values: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        TaskDraft(**{"input": b"", "content_type": "", **values})
    assert [problem.pointer for problem in refused.value.problems] == [pointer]


def test_policies_refuse_what_they_do_not_know() -> None:
    with pytest.raises(Invalid, match="status"):
        RetryPolicy(retry_on=("often",))
    with pytest.raises(Invalid, match="path"):
        QueueSpec(path="relative")
    with pytest.raises(Invalid, match="signed"):
        WebhooksSpec(url="https://example.com")
    with pytest.raises(Invalid, match=r"task\.failed"):
        WebhookSpec(url="https://example.com", secret="s", events=("task.began",))

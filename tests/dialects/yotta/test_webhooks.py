"""How Yotta tells of the ends of tasks: what its own validator checks, and when a try is made again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.dialects.yotta import DIALECT
from stoker.dialects.yotta.webhooks import body_of, request_of, wait_s
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import Body, Delivery, Task, TaskNumber, TaskState
from stoker.web import Ending

TASK = Task(
    number=TaskNumber(7),
    id="a_1",
    endpoint=EndpointId("e" * 36),
    project=ProjectId(1),
    state=TaskState.SUCCEEDED,
    priority=0,
    method="POST",
    target="/",
    headers=(),
    content_type="application/json",
    input=Body(size=0, inline=b""),
    digest="",
    retries=RetryPolicy(),
    execution_timeout_s=1,
    retention_s=1,
    created_at=0,
    not_before=0,
)
AT = datetime(2026, 1, 2, 3, 4, 5, 67_890, UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def sent(task: Task, result: Any, *, tries: int = 0, key: str | None = None, endpoint: int | None = 3) -> Any:
    """Headers and body of a try."""
    ending = Ending(task=task, event=f"task.{task.state}", result=result, link="", at=0, endpoint=endpoint)
    delivery = Delivery(
        id="msg_1",
        number=1,
        task=task.number,
        task_id=task.id,
        endpoint=task.endpoint,
        project=task.project,
        event="",
        url="http://x",
        secret=None,
        payload=body_of(ending),
        created_at=0,
        next_at=0,
        tries=tries,
    )
    headers, body = request_of(delivery, key, AT)
    return headers, json.loads(body)


@given(result=JSON.filter(lambda value: value is not None), tries=st.integers(0, 3))
def test_every_try_carries_the_same_result_with_its_own_time_and_number(result: Any, tries: int) -> None:
    headers, body = sent(TASK, result, tries=tries, key="k")
    assert headers == {"Content-Type": "application/json", "X-API-Key": "k"}
    assert body == {
        "timestamp": "2026-01-02 03:04:05.067",
        "retry_count": tries + 1,
        "task_id": 7,
        "user_task_id": "a_1",
        "endpoint_id": "3",
        "status": "Success",
        "success": True,
        "result": result,
    }


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED])
def test_what_did_not_succeed_failed_for_a_reason(state: TaskState) -> None:
    headers, body = sent(replace(TASK, state=state, reason="because"), None)
    assert "X-API-Key" not in headers
    assert (body["status"], body["success"], body["failed_reason"]) == ("Failed", False, "because")
    assert "result" not in body
    assert sent(replace(TASK, state=state), None)[1]["failed_reason"] == str(state)


def test_what_is_no_json_is_a_text_and_what_is_large_is_left_to_the_task() -> None:
    text = replace(TASK, result=Body(size=5, inline=b"plain"), result_type="text/plain")
    assert sent(text, None)[1]["result"] == "plain"
    assert sent(replace(TASK, result=Body(size=100_000, file="f")), None)[1]["result"] is None


def test_ids_are_such_as_receivers_check_whoever_made_the_task() -> None:
    body = sent(replace(TASK, id="0190-ab.c"), 1, endpoint=None)[1]
    assert (body["user_task_id"], body["endpoint_id"]) == ("0190_ab_c", "e" * 36)


def test_there_are_three_more_tries_after_1_5_and_15_minutes() -> None:
    assert [wait_s(tries, 0.5, None) for tries in (1, 2, 3, 4)] == [60, 300, 900, None]
    assert [wait_s(tries, 0.0, 9_999.0) for tries in (1, 4)] == [60, None], "whatever the receiver says"
    form = DIALECT.webhooks
    assert form is not None
    assert (form.try_s, form.keyed) == (10, False)
    assert form.give_up_s >= 60 + 300 + 900 + 4 * form.try_s

"""The gateway of jobs through all of control, on virtual time, with what workers say at the other end."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.novita.client import Cloud, config, play, told
from dialects.novita.test_pull import Hand, started
from stoker.dialects.novita import DIALECT
from stoker.dialects.novita.names import reference_of
from stoker.dialects.novita.routes.jobs import count_of
from stoker.dialects.novita.webhook import FORM, WAIT_S_MAX, status_of
from stoker.dialects.novita.wire import jobs
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.errors import Invalid
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import Body, Task, TaskNumber, TaskState
from stoker.web import Ending


async def made(cloud: Cloud, **more: Any) -> str:
    """A new endpoint of jobs."""
    return await cloud.make(name="jobs", type="async", workerConfig=config(gpuNum=0), products=[{"id": "cpu"}], **more)


async def taken(cloud: Cloud) -> tuple[Hand, str]:
    """A worker, and the job that it has asked for."""
    hand = await started(cloud.api)
    return hand, str((await hand.take()).json["id"])


def test_a_job_is_told_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    async def body(cloud: Cloud) -> None:
        id = await made(cloud, appName="app")
        name = f"{id}-app"
        job = await cloud.ok("POST", f"/v1/{name}/run", {"input": {"a": [1, "ü"]}, "other": 1})
        assert job["status"] == "PENDING"
        hand, taken_id = await taken(cloud)
        assert taken_id == job["id"]
        found = await cloud.ok("GET", f"/v1/{name}/status/{job['id']}")
        assert (found["status"], "output" in found, found["delayTime"] >= 0) == ("IN_PROGRESS", False, True)
        assert await hand.done(job["id"], {"output": {"b": None}}) is True
        found = await cloud.ended(name, job["id"])
        assert (found["status"], found["output"], found["executionTime"] >= 0) == ("COMPLETED", {"b": None}, True)
        # By any of its names.
        for each in (id, "jobs"):
            assert (await cloud.ok("GET", f"/v1/{each}/status/{job['id']}"))["status"] == "COMPLETED"
        health = await cloud.ok("GET", f"/v1/{name}/health")
        assert health["jobs"] == {"inQueue": 0, "inProgress": 0, "completed": 1, "failed": 0, "retried": None}
        assert health["workers"]["idle"] == 1
        stats = await cloud.ok("GET", f"/v1/{name}/stats")
        assert stats == {"busy_workers": 0, "endpoint": name, "in_progress": 0, "pending": 0, "total_workers": 1}

    play(body, tmp_path)


def test_a_failed_job_has_its_handlers_word_and_no_output(tmp_path: Path) -> None:
    async def body(cloud: Cloud) -> None:
        id = await made(cloud)
        job = (await cloud.ok("POST", f"/v1/{id}/run", {"input": None}))["id"]
        hand, _ = await taken(cloud)
        await hand.done(job, {"error": "I will not"})
        found = await cloud.ended(id, job)
        assert (found["status"], found["error"], "output" in found) == ("FAILED", "I will not", False)

    play(body, tmp_path)


def test_a_job_whose_worker_is_lost_has_one_further_attempt(tmp_path: Path) -> None:
    async def body(cloud: Cloud) -> None:
        id = await made(cloud)
        job = (await cloud.ok("POST", f"/v1/{id}/run", {"input": 1}))["id"]
        for attempt in (1, 2):
            await taken(cloud)
            await _silent(cloud, id, job, attempt)
        found = await cloud.ended(id, job)
        assert found["status"] == "FAILED"
        assert "nothing was heard of its worker" in found["error"] or "ended" in found["error"]

    play(body, tmp_path)


async def _silent(cloud: Cloud, id: str, job: str, attempt: int) -> None:
    """Wait until that attempt is given up, the worker being silent."""
    for _ in range(400):
        found = (await cloud.api.call("GET", f"/endpoints/{id}/tasks/{job}")).json
        if found["attempts"] >= attempt:
            return
        await asyncio.sleep(1)
    raise AssertionError(f"attempt {attempt} goes on: {found}")


def test_waiting_on_one_connection_ends_with_the_job_or_after_a_while(tmp_path: Path) -> None:
    async def body(cloud: Cloud) -> None:
        id = await made(cloud)
        waiting = asyncio.create_task(cloud.ok("POST", f"/v1/{id}/runsync", {"input": 1}))
        hand, job = await taken(cloud)
        await hand.done(job, {"output": 2})
        found = await waiting
        assert (found["id"], found["status"], found["output"]) == (job, "COMPLETED", 2)
        waiting = asyncio.create_task(cloud.ok("POST", f"/v1/{id}/runsync", {"input": 1}))
        await hand.done((await hand.take()).json["id"], {"output": "x" * (4 * 1024 * 1024)})
        found = await waiting
        assert (found["status"], found["output"]) == ("COMPLETED", None), "it is too long for this"
        assert found["error"].endswith(f"/api/v1/endpoints/{id}/tasks/{found['id']}/result")
        found = await cloud.ok("POST", f"/v1/{id}/runsync", {"input": 1})
        assert (found["status"], "output" in found) == ("PENDING", False)

    play(body, tmp_path)


def test_a_stream_is_told_once_piece_by_piece(tmp_path: Path) -> None:
    async def body(cloud: Cloud) -> None:
        id = await made(cloud)
        job = (await cloud.ok("POST", f"/v1/{id}/run", {"input": 1}))["id"]
        hand, _ = await taken(cloud)

        async def put(value: Any) -> None:
            content = json.dumps({"output": value}).encode()
            answer = await hand.begin("POST_STREAM", "POST", "&isStream=true", content, job=job).answer()
            assert answer.json["recorded"] is True

        async def stream() -> tuple[str, list[Any]]:
            found = await cloud.ok("GET", f"/v1/{id}/stream/{job}")
            return found["status"], [piece["output"] for piece in found["stream"]]

        assert await stream() == ("IN_PROGRESS", [])
        told_so_far: list[Any] = []
        for number in range(5):
            await put({"n": number})
            status, pieces = await stream()
            assert status == "IN_PROGRESS"
            told_so_far += pieces
        await put("last")
        await hand.begin("POST_OUTPUT", "POST", "&isStream=true", b'{"output": []}', job=job).answer()
        status, pieces = await stream()
        assert status == "COMPLETED"
        assert [*told_so_far, *pieces] == [{"n": n} for n in range(5)] + ["last"]
        assert await stream() == ("COMPLETED", []), "which is how its client knows the end"
        assert (await cloud.ended(id, job))["output"] == [{"n": n} for n in range(5)] + ["last"]

    play(body, tmp_path)


@given(count=st.integers(0, 5_000))
def test_how_often_a_stream_was_told_is_found_by_few_looks(count: int) -> None:
    asked: list[int] = []

    async def told_at(look: int) -> str | None:
        asked.append(look)
        return "place" if look < count else None

    assert asyncio.run(count_of(told_at)) == count
    assert len(asked) <= 2 * count.bit_length() + 2


def test_jobs_that_wait_are_cancelled_by_either_method_or_purged() -> None:
    async def body(cloud: Cloud) -> None:
        id = await made(cloud)
        ids = [(await cloud.ok("POST", f"/v1/{id}/run", {"input": n}))["id"] for n in range(4)]
        assert await cloud.ok("POST", f"/v1/{id}/cancel/{ids[0]}") == {"id": ids[0], "status": "CANCELLED"}
        assert await cloud.ok("GET", f"/v1/{id}/cancel/{ids[1]}") == {"id": ids[1], "status": "CANCELLED"}
        assert await cloud.ok("POST", f"/v1/{id}/purge-queue") == {"removed": 2, "status": "completed"}
        assert {(await cloud.ended(id, each))["status"] for each in ids} == {"CANCELLED"}

    play(body)


def test_what_is_not_there_is_404_at_this_gateway() -> None:
    async def body(cloud: Cloud) -> None:
        id = await made(cloud)
        for method, path in (
            ("GET", f"/v1/{id}/status/none"),
            ("GET", f"/v1/{id}/stream/none"),
            ("POST", f"/v1/{id}/cancel/none"),
            ("POST", "/v1/none/run"),
            ("GET", "/v1/none/health"),
            ("POST", "/v1/none/purge-queue"),
        ):
            told(await cloud.call(method, path, {"input": 1}), 404, "RESOURCE_NOT_FOUND")
        requests = await cloud.make(name="requests")
        told(await cloud.call("POST", f"/v1/{requests}/run", {"input": 1}), 400, "CONFLICT", "no tasks")

    play(body)


@pytest.mark.parametrize("wrong", [b"", b"[]", b"{", b"{}", b'{"input": NaN}', b'{"input": 1, "webhook": 2}'])
def test_what_is_no_job_is_refused(wrong: bytes) -> None:
    with pytest.raises(Invalid):
        jobs.draft_of(wrong)


TASK = Task(
    number=TaskNumber(1), id="t", endpoint=EndpointId("e"), project=ProjectId(1), state=TaskState.SUCCEEDED, priority=0,
    method="POST", target="/", headers=(), content_type="application/json", input=Body(size=1, inline=b"1"), digest="",
    retries=RetryPolicy(), execution_timeout_s=1, retention_s=1, created_at=10.0, not_before=10.0, started_at=11.0,
    ended_at=13.5, result_type="application/json",
)  # fmt: skip


@pytest.mark.parametrize(
    ("state", "reason", "called"),
    [
        (TaskState.QUEUED, "", "PENDING"),
        (TaskState.RUNNING, "", "IN_PROGRESS"),
        (TaskState.SUCCEEDED, "", "COMPLETED"),
        (TaskState.FAILED, "its worker ended", "FAILED"),
        (TaskState.FAILED, "total_timeout", "TIMED_OUT"),
        (TaskState.CANCELLED, "purged", "CANCELLED"),
        (TaskState.EXPIRED, "", "TIMED_OUT"),
    ],
)
def test_every_state_has_a_word(state: TaskState, reason: str, called: str) -> None:
    assert status_of(replace(TASK, state=state, reason=reason)) == called


@pytest.mark.parametrize(
    ("kind", "result", "output"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("application/json", b"{", "{"),
        ("application/x-ndjson", b'1\n"b"\n', [1, "b"]),
        ("text/plain", b"hi", "hi"),
        ("image/png", b"\xff", "\ufffd"),
        (None, None, None),
    ],
)
def test_outputs_are_shown_as_they_are_where_they_are_json(kind: str | None, result: bytes | None, output: Any) -> None:
    shown = msgspec.json.decode(jobs.told(replace(TASK, result_type=kind), result))
    assert shown == {"id": "t", "status": "COMPLETED", "delayTime": 1000, "executionTime": 2500, "output": output}


def test_a_webhook_is_the_status_without_a_signature_and_is_tried_less_and_less_often() -> None:
    assert DIALECT.webhooks is FORM
    ending = Ending(task=TASK, event="task.succeeded", result={"a": 1}, link="", at=13.5)
    assert json.loads(FORM.body(ending))["output"] == {"a": 1}
    failed = replace(ending, task=replace(TASK, state=TaskState.FAILED, reason="r"), result={"error": "no"})
    assert json.loads(FORM.body(failed))["error"] == "no"
    assert json.loads(FORM.body(replace(failed, result=None)))["error"] == "r"
    waits = [FORM.wait_s(tries, 0.5, None) or 0 for tries in range(1, 20)]
    assert waits == sorted(waits)
    assert waits[-1] == WAIT_S_MAX
    assert (FORM.wait_s(1, 0.5, 100.0), FORM.wait_s(1, 0.5, 1e9)) == (100.0, WAIT_S_MAX)


def test_names_in_addresses_are_taken_apart() -> None:
    id = "019e7044-8800-7c95-bf95-f5b696d9c9ee"
    assert [reference_of(name) for name in (id, f"{id}-app", f"{id}-{id}", "a-name", f"{id}x")] == [
        id, id, id, "a-name", f"{id}x",
    ]  # fmt: skip

"""Tasks through Yotta's API: once by their id, listed newest first, told apart from what is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dialects.yotta.client import ENDPOINTS, Cloud, play, told
from stoker.dialects.yotta.wire.tasks import detail
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import Body, DeliveryState, Task, TaskNumber, TaskState
from stoker.store import deliveries

NOT_A_TASK = (400, 10001, "Invalid request or non-QUEUE endpoint")
NO_SERVERLESS = (404, 24001, "Serverless does not exist")
NO_TASK = (404, 24011, "Task does not exist")


def test_a_task_is_made_once_and_shown_as_it_was_said(tmp_path: Path) -> None:
    async def main(cloud: Cloud) -> None:
        made = await cloud.make(webhook="https://example.com/all")
        at = f"{ENDPOINTS}/{made['id']}/tasks"
        long = "_" + "a" * 254
        said = {
            "taskId": long,
            "input": {"a": [1, 2.50, "ü"]},
            "headers": {"X-A": "b", "Host": "h", "content-type": "application/x+json", "Connection": "close"},
        }
        answer = await cloud.call("POST", at, said)
        assert answer.json == {
            "message": "Task submitted successfully",
            "code": 10000,
            "data": {"taskId": long},
        }
        again = await cloud.ok("POST", at, {**said, "input": "something else"})
        assert again == {"taskId": long}
        found = await cloud.call("GET", f"{at}/{long}")
        assert found.json["message"] == "Task found"
        task = found.json["data"]
        assert (task["input"], task["headers"], task["output"]) == (said["input"], {"X-A": "b"}, None)
        assert (task["status"], task["endpointId"], task["endpointName"]) == ("PROCESSING", int(made["id"]), "demo")
        assert (task["deliveryStatus"], task["deliveryAttempts"], task["deliveredAt"]) == ("INIT", 0, None)
        assert task["webhook"] == "https://example.com/all", "that of the endpoint"
        assert task["createdAt"] == task["updatedAt"]
        [native] = (await cloud.api.call("GET", "/endpoints/demo/tasks")).json["items"]
        assert (native["path"], native["port"], native["attempts_max"]) == ("/v1/chat/completions", None, 3)

    play(main, data_dir=tmp_path)


def test_the_newest_are_listed_first_in_pages_and_by_status(tmp_path: Path) -> None:
    async def main(cloud: Cloud) -> None:
        made = await cloud.make()
        at = f"{ENDPOINTS}/{made['id']}/tasks"
        ids = [(await cloud.ok("POST", at, {"input": n, "taskId": f"t{n}"}))["taskId"] for n in range(1, 6)]
        # What yields nothing else here fails by being cancelled.
        for id in ids[:2]:
            assert (await cloud.api.call("POST", f"/endpoints/demo/tasks/{id}:cancel")).status == 200
        page = await cloud.ok("GET", at)
        assert [each["taskId"] for each in page["items"]] == ids[::-1]
        assert {name: page[name] for name in ("page", "size", "total", "pages")} == {
            "page": 1,
            "size": 10,
            "total": 5,
            "pages": 1,
        }
        page = await cloud.ok("GET", f"{at}?status=processing&pageNumber=2&pageSize=2")
        assert [each["taskId"] for each in page["items"]] == ["t3"]
        assert page["pagination"] == {"page": 2, "pageSize": 2, "totalCount": 3, "totalPages": 2}
        [second, first] = (await cloud.ok("GET", f"{at}?status=FAILED"))["items"]
        assert (first["taskId"], second["error"]) == ("t1", "cancelled")
        assert "input" not in first
        empty = await cloud.ok("GET", f"{at}?status=SUCCESS")
        assert (empty["items"], empty["total"], empty["pages"]) == ([], 0, 0)
        counts = await cloud.ok("GET", f"{at}/count")
        assert counts == {"processing": 3, "total": 5, "delivered": 0, "success": 0, "failed": 2}
        for wrong in ("status=QUEUED", "pageNumber=0", "pageSize=0", "pageSize=101", "pageSize=x"):
            told(await cloud.call("GET", f"{at}?{wrong}"), 400, 10001, "Invalid request parameters")

    play(main, data_dir=tmp_path)


def test_how_a_webhook_fares_is_shown(tmp_path: Path) -> None:
    async def main(cloud: Cloud) -> None:
        made = await cloud.make()
        at = f"{ENDPOINTS}/{made['id']}/tasks"
        await cloud.ok("POST", at, {"input": 1, "taskId": "t", "webhook": "https://example.com/told"})
        await cloud.api.call("POST", "/endpoints/demo/tasks/t:cancel")
        store = cloud.api.world.store
        [number] = await store.read(lambda tx: [task.number for task in _tasks(tx, made)])
        [sent] = await store.read(lambda tx: deliveries.of_task(tx, number))
        assert (sent.form, json.loads(sent.payload)["failed_reason"]) == ("yotta", "cancelled")
        assert json.loads(sent.payload)["endpoint_id"] == made["id"]
        for state, tries, shown in (
            (DeliveryState.PENDING, 0, "INIT"),
            (DeliveryState.PENDING, 2, "FAILED"),
            (DeliveryState.FAILED, 4, "MAX_RETRIES_EXCEEDED"),
            (DeliveryState.DELIVERED, 3, "SUCCESS"),
        ):
            after = replace(sent, state=state, tries=tries, ended_at=12.5)
            await store.write(lambda tx: deliveries.save(tx, after))  # noqa: B023
            task = await cloud.ok("GET", f"{at}/t")
            assert (task["deliveryStatus"], task["deliveryAttempts"]) == (shown, tries)
            assert task["deliveredAt"] == (12_500 if shown == "SUCCESS" else None)

    play(main, data_dir=tmp_path)


def _tasks(tx: Any, made: Any) -> tuple[Task, ...]:
    from stoker.store import tasks as rows
    from stoker.store.tables import endpoints

    [id] = tx.scalars(endpoints.select().with_only_columns(endpoints.c.id))
    return rows.newest(tx, EndpointId(id), (), skip=0, limit=9)[0]


def test_there_are_no_tasks_where_there_is_no_queue() -> None:
    async def main(cloud: Cloud) -> None:
        for mode in ("ALB", "CUSTOM"):
            at = f"{ENDPOINTS}/{(await cloud.make(mode, serviceMode=mode))['id']}/tasks"
            told(await cloud.call("POST", at, {"input": 1}), *NOT_A_TASK)
            for path in (at, f"{at}/count", f"{at}/t"):
                told(await cloud.call("GET", path), *NO_SERVERLESS)
        made = await cloud.make()
        at = f"{ENDPOINTS}/{made['id']}/tasks"
        told(await cloud.call("GET", f"{at}/none"), *NO_TASK)
        await cloud.ok("POST", f"{ENDPOINTS}/{made['id']}/stop")
        told(await cloud.call("POST", at, {"input": 1}), 409, 24000, "Serverless unavailable")
        assert (await cloud.ok("GET", f"{at}/count"))["total"] == 0, "which is for submitting alone"
        await cloud.ok("DELETE", f"{ENDPOINTS}/{made['id']}")
        gone = await cloud.call("POST", at, {"input": 1})
        assert gone.json["code"] in (24001, 14000)
        told(await cloud.call("POST", f"{ENDPOINTS}/99/tasks", {"input": 1}), 404, 14000, "Endpoint not found")

    play(main)


MISTAKES: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({"input": None}, ["/input"]),
    ({"input": []}, ["/input"]),
    ({"taskId": "a-b"}, ["/taskId"]),
    ({"taskId": "a" * 256}, ["/taskId"]),
    ({"taskId": "count"}, ["/taskId"]),
    ({"workerPort": 0}, ["/workerPort"]),
    ({"workerPort": 8_001}, ["/workerPort"]),
    ({"processUri": ""}, ["/processUri"]),
    ({"processUri": "/a b"}, ["/processUri"]),
    ({"processUri": "/a#b"}, ["/processUri"]),
    ({"webhook": "x"}, ["/webhook"]),
    ({"webhook": "http://127.0.0.1/"}, ["/webhook"]),
    ({"webhookAuthKey": "ü"}, ["/webhookAuthKey"]),
    ({"headers": {"a_b": "c"}}, ["/headers"]),
    ({"headers": {"a": "\n"}}, ["/headers/a"]),
    ({"input": "x" * (4 * 1024 * 1024)}, []),
)


def test_what_is_no_task_is_refused_at_its_place() -> None:
    async def main(cloud: Cloud) -> None:
        at = f"{ENDPOINTS}/{(await cloud.make())['id']}/tasks"
        for wrong, places in MISTAKES:
            answer = await cloud.call("POST", at, {"input": 1, **wrong})
            if places:
                assert told(answer, *NOT_A_TASK) == places, wrong
            else:
                assert (answer.status, answer.json["code"]) == (400, 10001)
        assert (await cloud.ok("GET", f"{at}/count"))["total"] == 0

    play(main)


def test_ports_are_those_of_the_endpoint_or_any_where_it_has_none(tmp_path: Path) -> None:
    async def main(cloud: Cloud) -> None:
        made = await cloud.make(expose={"port": 9000, "protocol": "http"})
        at = f"{ENDPOINTS}/{made['id']}/tasks"
        for port in (None, 8000, 9000):
            more = {} if port is None else {"workerPort": port}
            await cloud.ok("POST", at, {"input": 1, "taskId": f"p{port}", **more})
        listed = (await cloud.api.call("GET", "/endpoints/demo/tasks")).json["items"]
        assert [each["port"] for each in listed] == [8000, 8000, None]
        native = await cloud.api.create("native", mode="mixed")
        await cloud.ok("POST", f"{ENDPOINTS}/{native['number']}/tasks", {"input": 1, "workerPort": 1234})

    play(main, data_dir=tmp_path)


def test_a_key_that_may_invoke_and_no_more_submits_and_asks(tmp_path: Path) -> None:
    async def main(cloud: Cloud) -> None:
        from stoker.domain.access import Scope

        made = await cloud.make()
        key = await cloud.api.key(Scope.INVOKE)
        at = f"{ENDPOINTS}/{made['id']}"
        assert (await cloud.call("POST", f"{at}/tasks", {"input": 1, "taskId": "t"}, key=key)).status == 200
        assert (await cloud.call("GET", f"{at}/tasks/t", key=key)).status == 200
        told(await cloud.call("DELETE", at, key=key), 401, 40101, "Authentication context not found")
        told(await cloud.call("GET", at, key=""), 401, 40101, "Authentication context not found")

    play(main, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("answered", "shown"),
    [
        (b'{"a":1.50}', b'"output":{"a":1.50}'),
        (b"plain", b'"output":"plain"'),
        (b"NaN", b'"output":"NaN"'),
        (b"\xff", '"output":"\ufffd"'.encode()),
        (b"[" * 5_000 + b"]" * 5_000, b'"output":"[[['),
        (None, b'"output":null'),
    ],
)
def test_an_answer_passes_as_it_is_and_as_a_text_where_it_is_no_json(answered: bytes | None, shown: bytes) -> None:
    from stoker.dialects.yotta.wire.tasks import TaskOut

    task = Task(
        number=TaskNumber(1),
        id="t",
        endpoint=EndpointId("e"),
        project=ProjectId(1),
        state=TaskState.SUCCEEDED,
        priority=0,
        method="POST",
        target="/",
        headers=(),
        content_type="application/json",
        input=Body(size=1, inline=b"1"),
        digest="",
        retries=RetryPolicy(),
        execution_timeout_s=1,
        retention_s=1,
        created_at=0,
        not_before=0,
    )
    out = TaskOut(
        task_id="t",
        endpoint_id=1,
        endpoint_name="e",
        status="SUCCESS",
        worker_url=None,
        webhook=None,
        delivery_status="INIT",
        delivery_attempts=0,
        error=None,
        created_at=0,
        updated_at=0,
        delivered_at=None,
    )
    text = detail("Task found", out, task, b"1", answered)
    assert shown in text
    assert msgspec.json.decode(text)["data"]["input"] == 1

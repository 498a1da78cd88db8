"""The protocol of workers that ask for jobs, over HTTP and through all of control, on virtual time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from api.client import Answer, Api, Exchange, run
from simulation.virtual import wall
from stoker.domain.worker import WorkerId

QUEUE = {"pull": True, "lease_s": 9, "retries": {"backoff_s": 0.1}}


class Hand:
    """A started worker: it has nothing but its environment."""

    def __init__(self, api: Api, worker: WorkerId) -> None:
        self.api, self.id = api, worker
        self.env = dict(api.world.provider.workers[worker].spec.env)

    def begin(self, what: str, method: str = "GET", more: str = "", body: bytes = b"", **ids: str) -> Exchange:
        """A call of one of its addresses, as its package completes them."""
        url = self.env[f"NOVITA_WEBHOOK_{what}"].replace("$NOVITA_POD_ID", self.id)
        path = url.replace("$ID", ids.get("job", self.id)).removeprefix(self.api.world.settings.url) + more
        headers = {"authorization": self.env["NOVITA_AI_API_KEY"], "host": "127.0.0.1:7878"}
        return Exchange(self.api.app, method, path, headers, body)

    async def take(self) -> Answer:
        return await self.begin("GET_JOB", more="&job_in_progress=0").answer()

    async def ping(self, ids: str = "") -> Answer:
        return await self.begin("PING", more=f"?job_id={ids}" if ids else "").answer()

    async def done(self, job: str, value: object, *, raw: bytes | None = None) -> Any:
        body = json.dumps(value).encode() if raw is None else raw
        answer = await self.begin("POST_OUTPUT", "POST", "&isStream=false", body, job=job).answer()
        assert answer.status == 200, answer.body
        return answer.json["recorded"]


async def started(api: Api) -> Hand:
    """The endpoint's worker, as soon as there is one."""
    for _ in range(200):
        running = [id for id, worker in api.world.provider.workers.items() if worker.exit is None]
        if running:
            return Hand(api, running[-1])
        await asyncio.sleep(0.1)
    raise AssertionError("no worker was started")


async def task(api: Api, id: str) -> Any:
    return (await api.call("GET", f"/endpoints/e/tasks/{id}")).json


def test_a_task_starts_a_worker_that_asks_for_it_and_idleness_ends_it(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        scaling = {"scale_down_delay_s": 5, "idle_timeout_s": 30}
        made = await api.create(mode="queue", queue=QUEUE, scaling=scaling)
        await api.call("POST", "/endpoints/e/tasks", {"id": "t", "input": {"a": [1]}})
        hand = await started(api)
        first = await hand.take()
        assert first.headers["content-type"] == "application/json"
        assert first.json == {"id": "t", "input": {"a": [1]}, "attempt": 1, "delivery": 1}
        entry = api.world.stoker.link.endpoint(made["id"])
        assert entry is not None
        assert entry.workers == (), "nothing is ever sent to it"
        began = wall()
        while wall() < began + 60:
            assert (await hand.ping("t")).status == 200
            await asyncio.sleep(3)
        assert (await task(api, "t"))["state"] == "running", "a worker with a job is not idle"
        [shown] = (await api.call("GET", "/endpoints/e/workers")).json["items"]
        assert (shown["state"], shown["in_flight"]) == ("ready", 1)
        assert await hand.done("t", {"output": {"b": 2}}) is True
        assert (await task(api, "t"))["state"] == "succeeded"
        ended = wall()
        while [worker for worker in api.world.provider.workers.values() if worker.exit is None]:
            await hand.ping()
            await asyncio.sleep(1)
        assert 28 <= wall() - ended <= 40, "idle since its last job, not since its start"

    run(body, data_dir=tmp_path)


def test_a_worker_finishes_its_job_before_it_is_stopped(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue", queue=QUEUE)
        await api.call("POST", "/endpoints/e/tasks", {"id": "t"})
        hand = await started(api)
        assert (await hand.take()).json["input"] is None
        await api.call("POST", "/endpoints/e:stop")
        for _ in range(10):
            await hand.ping("t")
            await asyncio.sleep(3)
        assert api.world.provider.stops == []
        await hand.done("t", {"output": 1})
        await asyncio.sleep(2)
        assert api.world.provider.stops == [hand.id]
        assert (await task(api, "t"))["state"] == "succeeded"

    run(body, data_dir=tmp_path)


def test_a_worker_that_falls_silent_is_replaced(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue", queue=QUEUE, min=1)
        hand = await started(api)
        await hand.take()
        await asyncio.sleep(30)
        assert api.world.provider.stops == [hand.id]
        assert len([worker for worker in api.world.provider.workers.values() if worker.exit is None]) == 1

    run(body, data_dir=tmp_path)


def test_batches_are_lists(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue", queue=QUEUE, min=1, slots=5)
        hand = await started(api)
        for n in range(3):
            await api.call("POST", "/endpoints/e/tasks", {"id": f"t{n}"})
        hand.env["NOVITA_WEBHOOK_GET_JOB"] = hand.env["NOVITA_WEBHOOK_GET_JOB"].replace("take/", "take-batch/")
        found = await hand.begin("GET_JOB", more="&batch_size=2&job_in_progress=0").answer()
        assert [job["id"] for job in found.json] == ["t0", "t1"]
        assert [job["id"] for job in (await hand.begin("GET_JOB", more="&batch_size=9").answer()).json] == ["t2"]

    run(body, data_dir=tmp_path)


def test_progress_and_pieces_are_no_end_and_too_late_they_change_nothing(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue", queue=QUEUE)
        await api.call("POST", "/endpoints/e/tasks", {"id": "t"})
        hand = await started(api)
        await hand.take()
        assert await hand.done("t", {"status": "IN_PROGRESS", "output": "half"}) is True
        piece = await hand.begin("POST_STREAM", "POST", "&isStream=false", b'{"output": 1}', job="t").answer()
        assert (piece.status, piece.json) == (200, {"recorded": True})
        assert (await task(api, "t"))["state"] == "running"
        assert await hand.done("t", {"output": "whole"}) is True
        assert await hand.done("t", {"status": "IN_PROGRESS", "output": "late"}) is False
        assert await hand.done("t", {"output": "again"}) is False
        assert (await api.call("GET", "/endpoints/e/tasks/t/result")).body == b'"whole"'

    run(body, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"output": NaN}', "not JSON that can be kept"),
        (b"", "not JSON that can be kept"),
        (b"[1]", "not JSON that can be kept"),
        (b'{"error": {"code": 5}}', '{"code":5}'),
        (b'{"output": "' + b"x" * 2**20 + b'"}', "a body has at most"),
    ],
)
def test_what_cannot_be_a_result_is_a_failure_that_says_why(tmp_path: Path, raw: bytes, reason: str) -> None:
    async def body(api: Api) -> None:
        api.world.stoker.queue.pulls.output_bytes_max = 2**20
        await api.create(mode="queue", queue=QUEUE)
        await api.call("POST", "/endpoints/e/tasks", {"id": "t", "retries": {"retry_on": []}})
        hand = await started(api)
        await hand.take()
        assert await hand.done("t", None, raw=raw) is True
        ended = await task(api, "t")
        assert (ended["state"], ended["status"]) == ("failed", 500)
        assert reason in ended["reason"]

    run(body, data_dir=tmp_path)


def test_outputs_are_kept_as_they_were_sent(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue", queue=QUEUE, min=1)
        hand = await started(api)
        for n, (said, kept) in enumerate(
            [
                ('{"output": {"ü": [1.10, 1e3,  "\\u00fc"]}}', '{"ü": [1.10, 1e3,  "\\u00fc"]}'),
                ('{"output": false}', "false"),
                ('{"output": []}', "[]"),
                ("{}", "null"),
            ]
        ):
            await api.call("POST", "/endpoints/e/tasks", {"id": f"t{n}"})
            await hand.take()
            await hand.done(f"t{n}", None, raw=said.encode())
            assert (await api.call("GET", f"/endpoints/e/tasks/t{n}/result")).body.decode() == kept

    run(body, data_dir=tmp_path)


def test_an_input_that_no_job_can_have_is_refused(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue", queue=QUEUE)
        refused = await api.call(
            "POST", "/endpoints/e/tasks:raw?id=t", body=b"words", headers={"content-type": "text/plain"}
        )
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/input"), refused.body
        taken = await api.call("POST", "/endpoints/e/tasks:raw?id=t", body=b'{"a":  1}')
        assert taken.status == 202
        hand = await started(api)
        assert b'"input":{"a":  1}' in (await hand.take()).body

    run(body, data_dir=tmp_path)


def test_a_stream_s_pieces_are_lines_of_its_result(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue", queue=QUEUE)
        for id, final, kept in (
            ("told", b'{"output": []}', b'{"a":1}\n"\xc3\xbc"\n'),
            ("gathered", b'{"output": [{"a": 1}, "\xc3\xbc"]}', b'{"a": 1}\n"\xc3\xbc"\n'),
            ("failed", b'{"error": "no"}', b'{"a":1}\n"\xc3\xbc"\n{"error": "no"}\n'),
        ):
            await api.call("POST", "/endpoints/e/tasks", {"id": id, "retries": {"retry_on": []}})
            hand = await started(api)
            await hand.take()
            for piece in (b'{"output": {"a":\n1}}', b'{"output": "\xc3\xbc"}'):
                assert (
                    await hand.begin("POST_STREAM", "POST", "&isStream=false", piece, job=id).answer()
                ).status == 200
            assert (await hand.begin("POST_OUTPUT", "POST", "&isStream=true", final, job=id).answer()).status == 200
            assert (await api.call("GET", f"/endpoints/e/tasks/{id}/result")).body == kept

    run(body, data_dir=tmp_path)


def test_whoever_has_not_the_worker_s_token_is_refused_and_not_at_once(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue", queue=QUEUE, min=1)
        hand = await started(api)
        good = hand.env["NOVITA_AI_API_KEY"]
        for bad in ("", "Bearer x", f"Bearer {api.secret}", good + "x"):
            hand.env["NOVITA_AI_API_KEY"] = bad
            began = wall()
            answer = await hand.ping()
            assert (answer.status, answer.json["reason"]) == (401, "UNAUTHORIZED")
            assert wall() - began == 1, "it would ask again at once"
        hand.env["NOVITA_AI_API_KEY"] = good
        assert (await hand.ping()).status == 200
        hand.id = WorkerId("another")
        assert (await hand.ping()).status == 401

    run(body, data_dir=tmp_path)


def test_a_token_is_good_for_nothing_else(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue", queue=QUEUE, min=1)
        hand = await started(api)
        token = hand.env["NOVITA_AI_API_KEY"].removeprefix("Bearer ")
        assert (await api.call("GET", "/endpoints", key=token)).status == 401

    run(body, data_dir=tmp_path)


def test_a_batch_of_none_is_no_batch(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue", queue=QUEUE, min=1)
        hand = await started(api)
        hand.env["NOVITA_WEBHOOK_GET_JOB"] = hand.env["NOVITA_WEBHOOK_GET_JOB"].replace("take/", "take-batch/")
        answer = await hand.begin("GET_JOB", more="&batch_size=0").answer()
        assert (answer.status, answer.json["reason"]) == (400, "VALIDATOR_PARAM")

    run(body, data_dir=tmp_path)

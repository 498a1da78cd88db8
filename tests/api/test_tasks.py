"""Tasks over the native API: kept before they are answered, the same once only, bounded, and ended by their owner."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from sqlalchemy import select

from api.client import Api, run
from stoker.domain.access import Scope
from stoker.domain.task import INPUT_BYTES_MAX
from stoker.store import tasks as rows
from stoker.store.tables import audit, task_keys

SECRET = {"name": "signing", "value": "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"}


def test_a_task_is_there_once_whoever_submits_it_again(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="mixed")
        task = {"id": "mine", "input": {"a": 1}, "priority": 3, "headers": {"X-A": "b"}}
        first = await api.call("POST", "/endpoints/e/tasks", task)
        assert (first.status, first.json["created"], first.json["state"]) == (202, True, "queued")
        again = await api.call("POST", "/endpoints/e/tasks", task)
        assert again.json == first.json | {"created": False}
        other = await api.call("POST", "/endpoints/e/tasks", task | {"input": 2})
        assert other.status == 409
        assert "something else" in other.json["detail"]
        taken = await api.call("POST", "/endpoints/e/tasks", task | {"input": 2, "on_duplicate": "existing"})
        assert (taken.status, taken.json["created"]) == (202, False)
        refused = await api.call("POST", "/endpoints/e/tasks", task | {"on_duplicate": "refuse"})
        assert refused.status == 409
        listed = await api.call("GET", "/endpoints/e/tasks?state=queued")
        assert [item["id"] for item in listed.json["items"]] == ["mine"]
        assert (await api.call("GET", "/endpoints/e/tasks/mine")).json["tried"] == []
        assert (await api.call("GET", "/endpoints/e/tasks/other")).status == 404

    run(body, data_dir=tmp_path)


def test_inputs_are_bounded_and_large_ones_lie_in_files(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue")
        content = {"content-type": "image/png"}
        large = await api.call("POST", "/endpoints/e/tasks:raw?id=large", body=b"x" * 100_000, headers=content)
        assert (large.status, large.json["input_bytes"]) == (202, 100_000)
        [file] = (tmp_path / "tasks").iterdir()
        assert (file.stat().st_size, file.stat().st_mode & 0o777) == (100_000, 0o600)
        assert await api.world.store.read(rows.files) == {file.name}
        again = await api.call("POST", "/endpoints/e/tasks:raw?id=large", body=b"x" * 100_000, headers=content)
        assert again.json["created"] is False
        assert [*(tmp_path / "tasks").iterdir()] == [file], "what was not needed is gone"
        too_large = await api.call("POST", "/endpoints/e/tasks:raw", body=b"x" * (INPUT_BYTES_MAX + 1), headers=content)
        assert too_large.status == 413
        # Both a little above the bound, and so far that the rest of the document is not read.
        for beyond in (1, 300_000):
            wrong = await api.call("POST", "/endpoints/e/tasks", {"input": "x" * (INPUT_BYTES_MAX + beyond)})
            assert (wrong.status, [each["pointer"] for each in wrong.json["errors"]]) == (413, ["/input"])
        many = {"tasks": [{"input": 1}, {"input": "x" * INPUT_BYTES_MAX}]}
        wrong = await api.call("POST", "/endpoints/e/tasks:batch", many)
        assert (wrong.status, [each["pointer"] for each in wrong.json["errors"]]) == (413, ["/tasks/1/input"])
        assert (await api.call("GET", "/endpoints/e/queue")).json["queued"] == 1

    run(body, data_dir=tmp_path)


def test_a_batch_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue")
        batch = await api.call("POST", "/endpoints/e/tasks:batch", {"tasks": [{"id": f"t{n}"} for n in range(3)]})
        assert [item["id"] for item in batch.json["items"]] == ["t0", "t1", "t2"]
        mixed = {"tasks": [{"id": "t3"}, {"id": "t1", "input": "another"}]}
        assert (await api.call("POST", "/endpoints/e/tasks:batch", mixed)).status == 409
        wrong = {"tasks": [{"id": "t3"}, {"webhook": {"url": "http://127.0.0.1/hook", "secret": "signing"}}]}
        refused = await api.call("POST", "/endpoints/e/tasks:batch", wrong)
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/tasks/1/webhook/url")
        twice = await api.call("POST", "/endpoints/e/tasks:batch", {"tasks": [{"id": "t4"}, {"id": "t4"}]})
        assert [item["created"] for item in twice.json["items"]] == [True, False]
        assert (await api.call("GET", "/endpoints/e/queue")).json["queued"] == 4

    run(body, data_dir=tmp_path)


def test_a_full_queue_and_an_endpoint_without_one_refuse(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create("small", mode="queue", queue={"backlog_max": 2})
        await api.create("plain")
        one: dict[str, object] = {"input": 1}
        answers = await asyncio.gather(*(api.call("POST", "/endpoints/small/tasks", one) for _ in range(5)))
        assert sorted(answer.status for answer in answers) == [202, 202, 429, 429, 429]
        assert (await api.call("POST", "/endpoints/plain/tasks", one)).status == 409

    run(body, data_dir=tmp_path)


def test_queued_tasks_are_cancelled_and_purged_at_once_and_made_anew(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue")
        for id in ("a", "b", "c"):
            await api.call("POST", "/endpoints/e/tasks", {"id": id, "input": id})
        waiting = asyncio.create_task(api.call("GET", "/endpoints/e/tasks/a/wait?timeout=30"))
        await asyncio.sleep(0.1)
        cancelled = await api.call("POST", "/endpoints/e/tasks/a:cancel")
        assert cancelled.json["state"] == "cancelled"
        assert (await waiting).json["state"] == "cancelled"
        assert (await api.call("POST", "/endpoints/e/tasks/a:cancel")).json["state"] == "cancelled"
        assert (await api.call("GET", "/endpoints/e/tasks/a/result")).status == 404
        assert (await api.call("GET", "/endpoints/e/tasks/b/result")).status == 409
        assert (await api.call("POST", "/endpoints/e/tasks/b:retry")).status == 409
        assert (await api.call("POST", "/endpoints/e/queue:purge")).json == {"purged": 2}
        anew = await api.call("POST", "/endpoints/e/tasks/b:retry")
        assert (anew.status, anew.json["state"]) == (202, "queued")
        assert anew.json["id"] != "b"
        counts = (await api.call("GET", "/endpoints/e/queue")).json["counts"]
        assert counts == {"cancelled": 3, "queued": 1}
        assert (await api.call("GET", "/endpoints/e/tasks/b/wait?timeout=30")).json["state"] == "cancelled"

    run(body, data_dir=tmp_path)


def test_a_paused_queue_is_no_demand_and_its_pauses_are_audited(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        made = await api.create(mode="queue")
        paused = await api.call("POST", "/endpoints/e/queue:pause")
        assert paused.json["paused"] is True
        await api.call("POST", "/endpoints/e/tasks", {"input": 1})
        await asyncio.sleep(5)
        assert api.world.stoker.fleet.live(made["id"]) == ()
        resumed = await api.call("POST", "/endpoints/e/queue:resume")
        assert (resumed.json["paused"], resumed.json["ready"]) == (False, 1)
        for _ in range(100):
            if api.world.stoker.fleet.live(made["id"]):
                break
            await asyncio.sleep(0.1)
        assert len(api.world.stoker.fleet.live(made["id"])) == 1, "a task wakes an endpoint from zero"
        actions = await api.world.store.read(
            lambda tx: [row.after for row in tx.execute(audit.select()) if row.action == "queue.change"]
        )
        assert actions == ['{"paused":true}', '{"paused":false}']

    run(body, data_dir=tmp_path)


def test_tasks_that_do_not_start_in_time_expire_and_those_of_a_deleted_endpoint_are_cancelled(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue", queue={"retention_s": 100})
        await api.call("POST", "/endpoints/e/queue:pause")
        await api.call("POST", "/endpoints/e/tasks", {"id": "short", "ttl_s": 2})
        await api.call("POST", "/endpoints/e/tasks", {"id": "long"})
        await asyncio.sleep(5)
        assert (await api.call("GET", "/endpoints/e/tasks/short")).json["state"] == "expired"
        assert (await api.call("GET", "/endpoints/e/tasks/long")).json["state"] == "queued"
        number = (await api.call("GET", "/endpoints/e/tasks/long")).json["number"]
        await api.call("DELETE", "/endpoints/e")
        await asyncio.sleep(10)
        left = await api.world.store.read(lambda tx: rows.whole(tx, number))
        assert left is not None
        assert (left.state, left.reason) == ("cancelled", "the endpoint is deleted")
        await asyncio.sleep(200)
        assert await api.world.store.read(lambda tx: rows.whole(tx, number)) is None, "kept for its retention alone"

    run(body, data_dir=tmp_path)


def test_webhooks_are_signed_with_a_secret_that_there_is_and_that_the_caller_may_use(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue")
        hook = {"webhook": {"url": "https://hooks.example/x", "secret": "signing"}}
        unsigned = await api.call("POST", "/endpoints/e/tasks", {"webhook": {"url": "https://hooks.example/x"}})
        assert unsigned.json["errors"][0]["pointer"] == "/webhook/secret"
        assert (await api.call("POST", "/endpoints/e/tasks", hook)).status == 422
        await api.call("POST", "/secrets", SECRET)
        assert (await api.call("POST", "/endpoints/e/tasks", hook)).status == 202
        caller = await api.key(Scope.INVOKE)
        assert (await api.call("POST", "/endpoints/e/tasks", hook, key=caller)).status == 403
        assert (await api.call("POST", "/endpoints/e/tasks", {}, key=caller)).status == 202
        owned = {"url": "https://hooks.example/all", "secret": "signing"}
        await api.create("told", mode="queue", webhooks=owned)
        assert (await api.call("POST", "/endpoints/told/tasks", hook, key=caller)).status == 202
        assert (await api.call("DELETE", "/secrets/signing")).status == 409
        await api.call("POST", "/endpoints/told/queue:purge")
        [delivery] = (await api.call("GET", "/endpoints/told/webhooks")).json["items"]
        assert (delivery["event"], delivery["url"]) == ("task.cancelled", "https://hooks.example/x")
        again = await api.call("POST", f"/endpoints/told/webhooks/{delivery['id']}:redeliver")
        assert (again.status, again.json["id"], again.json["state"]) == (202, delivery["id"], "pending")

    run(body, data_dir=tmp_path)


def test_a_key_that_comes_with_a_task_is_kept_encrypted_and_never_shown(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue")
        hook = {"url": "https://hooks.example/x", "key": "whsec_dGhlaXIgb3du"}
        both = await api.call("POST", "/endpoints/e/tasks", {"webhook": hook | {"secret": "signing"}})
        assert both.json["errors"][0]["pointer"] == "/webhook/key"
        caller = await api.key(Scope.INVOKE)
        made = await api.call("POST", "/endpoints/e/tasks", {"id": "a", "webhook": hook}, key=caller)
        assert made.status == 202
        again = await api.call("POST", "/endpoints/e/tasks", {"id": "a", "webhook": hook}, key=caller)
        assert again.json["created"] is False
        raw = await api.call(
            "POST",
            "/endpoints/e/tasks:raw?id=b&webhook_url=https://hooks.example/y",
            body=b"x",
            headers={"x-stoker-webhook-key": hook["key"], "content-type": "text/plain"},
        )
        assert raw.status == 202
        kept = {place: json.dumps(rows, default=str) for place, rows in (await api.dump()).items()}
        assert not [place for place, text in kept.items() if hook["key"] in text or "their own" in text]
        assert len(await api.world.store.read(lambda tx: tx.execute(select(task_keys)).all())) == 2
        await api.call("POST", "/endpoints/e/tasks/a:cancel")
        await api.call("POST", "/endpoints/e/tasks/a:retry")
        await api.call("POST", "/endpoints/e/queue:purge")
        deliveries = (await api.call("GET", "/endpoints/e/webhooks")).json["items"]
        assert len(deliveries) == 3
        vault = api.world.stoker.vault
        ids = await api.world.store.read(lambda tx: tx.scalars(select(task_keys.c.id)).all())
        assert {await vault.task_key(id) for id in ids} == {hook["key"]}
        await api.call("POST", "/master-key:rotate")
        assert {await vault.task_key(id) for id in ids} == {hook["key"]}

    run(body, data_dir=tmp_path)


def test_a_raw_task_says_in_its_query_what_another_says_in_its_document(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        launch = {"command": ["server", "{port}"], "port": 8000, "ports": [9000]}
        await api.create("ports", mode="queue", launch=launch)
        query = "path=/run&method=PUT&port=9000&header=X-A:+b&attempts_max=7&retry_on=404&priority=2"
        headers = {"content-type": "text/plain"}
        raw = await api.call("POST", f"/endpoints/ports/tasks:raw?{query}", body=b"x", headers=headers)
        assert raw.status == 202, raw.json
        said = {name: raw.json[name] for name in ("path", "method", "port", "attempts_max", "priority")}
        assert said == {"path": "/run", "method": "PUT", "port": 9000, "attempts_max": 7, "priority": 2}
        wrong = await api.call("POST", "/endpoints/ports/tasks:raw?header=nothing", body=b"x", headers=headers)
        assert wrong.json["errors"][0]["pointer"] == "/header/0"
        other = await api.call("POST", "/endpoints/ports/tasks", {"port": 8001})
        assert other.json["errors"][0]["pointer"] == "/port"
        assert "8000, 9000" in other.json["detail"]

    run(body, data_dir=tmp_path)


def test_a_task_is_followed_as_server_sent_events_until_its_end(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(mode="queue")
        await api.call("POST", "/endpoints/e/queue:pause")
        await api.call("POST", "/endpoints/e/tasks", {"id": "a"})
        following = asyncio.create_task(api.call("GET", "/endpoints/e/tasks/a/events"))
        await asyncio.sleep(25)
        await api.call("POST", "/endpoints/e/tasks/a:cancel")
        told = await following
        assert told.headers["content-type"].startswith("text/event-stream")
        first, *beats, last = told.body.decode().strip("\n").split("\n\n")
        assert set(beats) == {":"}
        assert first.startswith("id: 0-0\nevent: stoker.task\ndata: {")
        assert json.loads(last.partition("data: ")[2])["state"] == "cancelled"
        assert last.startswith("id: 0-end\n")
        again = await api.call("GET", "/endpoints/e/tasks/a/events", headers={"last-event-id": "0-end"})
        assert again.status == 204

    run(body, data_dir=tmp_path)

"""What happens to endpoints, as the native API tells it: workers, logs, events, decisions, operations."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.client import Api, Exchange, run, spec
from api.test_projects import first
from stoker.control.feed import FOLLOWERS_MAX
from stoker.domain.access import Scope


async def now() -> float:
    return asyncio.get_running_loop().time()


def test_an_operation_is_answered_when_it_ends_or_when_the_wait_is_over() -> None:
    async def body(api: Api) -> None:
        api.world.load_s = 7.0
        made = (await api.call("POST", "/endpoints", spec(min=1))).json["operation"]
        assert (made["kind"], made["state"]) == ("create", "pending")
        path = f"/operations/{made['id']}"
        began = await now()
        assert (await api.call("GET", path)).json["state"] == "pending"
        assert await now() == began
        assert (await api.call("GET", f"{path}?wait_s=3")).json["state"] == "pending"
        assert await now() - began == 3
        ended = (await api.call("GET", f"{path}?wait_s=60")).json
        assert (ended["state"], ended["message"]) == ("success", "1 workers are ready")
        assert 7 <= await now() - began < 9, "at once, not when the wait is over"
        for query in ("wait_s=61", "wait_s=-1", "wait_s=nan", "wait_s=x"):
            assert (await api.call("GET", f"{path}?{query}")).status == 422, query
        assert (await api.call("GET", "/operations/nothing?wait_s=60")).status == 404

    run(body)


def test_a_wait_misses_no_end_that_comes_while_it_looks() -> None:
    async def body(api: Api) -> None:
        made = (await api.call("POST", "/endpoints", spec(min=1))).json["operation"]
        read = api.world.store.read

        async def slow(query: Any) -> Any:
            found = await read(query)
            await asyncio.sleep(4)
            return found

        api.world.store.read = slow  # type: ignore[method-assign]
        began = await now()
        ended = await api.call("GET", f"/operations/{made['id']}?wait_s=60")
        assert ended.json["state"] == "success"
        assert await now() - began < 10

    run(body)


def test_events_are_read_on_from_a_number_or_from_the_end() -> None:
    async def body(api: Api) -> None:
        await api.create(min=1)
        await asyncio.sleep(10)
        everything = (await api.call("GET", "/endpoints/e/events?after=0&limit=500")).json["items"]
        kinds = [event["kind"] for event in everything]
        assert kinds[0] == "endpoint_created"
        assert {"worker_starting", "worker_ready", "create_success"} <= set(kinds)
        numbers = [event["number"] for event in everything]
        assert numbers == sorted(set(numbers))
        newest = (await api.call("GET", "/endpoints/e/events?limit=2")).json["items"]
        assert newest == everything[-2:]
        first = (await api.call("GET", "/endpoints/e/events?after=0&limit=1")).json["items"]
        rest = (await api.call("GET", f"/endpoints/e/events?after={numbers[0]}")).json["items"]
        assert first + rest == everything
        assert (await api.call("GET", f"/endpoints/e/events?after={2**63 - 1}")).json["items"] == []
        for query in ("after=-1", f"after={2**63}", "after=" + "9" * 4_000, "limit=0", "limit=501"):
            assert (await api.call("GET", f"/endpoints/e/events?{query}")).status == 422, query[:30]

    run(body)


def test_decisions_come_newest_first_with_reason_and_inputs() -> None:
    async def body(api: Api) -> None:
        made = await api.create(scaling={"idle_timeout_s": 20, "scale_down_delay_s": 5})
        await api.world.gateway.request(made["id"], 1.0).ended.wait()
        await asyncio.sleep(40)
        decisions = (await api.call("GET", "/endpoints/e/decisions")).json["items"]
        assert [(d["current"], d["workers"]) for d in decisions] == [(1, 0), (0, 1)]
        assert "idle for 20 s" in decisions[0]["reason"]
        assert decisions[1]["inputs"]["waiting"] == 1
        first = (await api.call("GET", "/endpoints/e/decisions?limit=1")).json
        then = (await api.call("GET", f"/endpoints/e/decisions?limit=1&cursor={first['next']}")).json
        assert [*first["items"], *then["items"]] == decisions
        assert then["next"] is None
        assert (await api.call("GET", "/endpoints/e/decisions?cursor=x")).status == 422

    run(body)


def _told(answer: bytes) -> list[dict[str, str]]:
    """Server-sent events as their fields; beats are empty."""
    blocks = answer.decode().removesuffix("\n\n").split("\n\n")
    pairs = [[line.partition(": ")[::2] for line in block.split("\n") if line != ":"] for block in blocks]
    return [dict(block) for block in pairs]


def test_a_feed_tells_events_and_decisions_as_they_come_and_goes_on_from_any_of_them() -> None:
    async def body(api: Api) -> None:
        made = await api.create(scaling={"idle_timeout_s": 20, "scale_down_delay_s": 5})
        following = asyncio.create_task(api.call("GET", "/endpoints/e/feed"))
        await asyncio.sleep(15)
        await api.world.gateway.request(made["id"], 1.0).ended.wait()
        await asyncio.sleep(40)
        decisions = (await api.call("GET", "/endpoints/e/decisions")).json["items"][::-1]
        events = (await api.call("GET", "/endpoints/e/events?after=0")).json["items"]
        await api.call("DELETE", "/endpoints/e")
        whole = await following
        assert whole.headers["content-type"].startswith("text/event-stream")
        place, *told = _told(whole.body)
        assert set(place) == {"id"}
        assert {} in told, "a sign of life in quiet times"
        told = [one for one in told if one]
        documents = [(one["event"], json.loads(one["data"])) for one in told]
        assert [d for name, d in documents if name == "stoker.decision"][:2] == decisions
        # What was there before is in the list.
        later = [event for event in events if event["number"] > int(place["id"].partition("-")[0])]
        assert [d for name, d in documents if name == "stoker.event"][: len(later)] == later
        assert "worker_ready" in [event["kind"] for event in later]
        assert documents[-1][1]["kind"] == "delete_success"
        assert len({one["id"] for one in told}) == len(told)

    run(body)


def test_a_feed_is_resumed_without_gap_or_repetition_and_ends_now_and_then() -> None:
    async def body(api: Api) -> None:
        made = await api.create(scaling={"idle_timeout_s": 20, "scale_down_delay_s": 5})
        await api.world.gateway.request(made["id"], 1.0).ended.wait()
        await asyncio.sleep(40)
        started = asyncio.get_running_loop().time()
        everything = _told((await api.call("GET", "/endpoints/e/feed?tail=100")).body)
        assert 600 <= asyncio.get_running_loop().time() - started < 620, "who follows is admitted anew"
        everything = [one for one in everything if "data" in one]
        for index, one in enumerate(everything):
            headers = {"last-event-id": one["id"]}
            exchange = api.begin("GET", "/endpoints/e/feed", headers=headers)
            assert (await exchange.sent())["status"] == 200
            read = b""
            while not read or len(_told(read)) <= len(everything) - index - 1:
                read += (await exchange.sent())["body"]
            assert _told(read) == [{"id": one["id"]}, *everything[index + 1 :]]
            await exchange.leave()
        only = _told((await api.call("GET", "/endpoints/e/feed?of=decisions&tail=1")).body)
        assert [json.loads(one["data"])["workers"] for one in only if "data" in one] == [0]

    run(body)


def test_a_feed_is_for_those_who_may_read_the_endpoint_and_no_more_of_them_than_it_bears() -> None:
    async def body(api: Api) -> None:
        made, other = await api.create(), await api.create("other")
        limited = await api.key(Scope.READ, endpoints=[other["id"]])
        assert (await api.call("GET", f"/endpoints/{made['id']}/feed", key=limited)).status == 404
        assert (await api.call("GET", "/endpoints/e/feed", key="")).status == 401
        for last in ("x", "1", "-1-2", "9" * 40 + "-1"):
            refused = await api.call("GET", "/endpoints/e/feed", headers={"last-event-id": last})
            assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/Last-Event-ID")
        begun = [api.begin("GET", "/endpoints/e/feed") for _ in range(FOLLOWERS_MAX)]
        for exchange in begun:
            assert (await exchange.sent())["status"] == 200
        assert (await api.call("GET", "/endpoints/e/feed")).status == 429
        for exchange in begun:
            await exchange.leave()
        exchange = api.begin("GET", "/endpoints/e/feed")
        assert (await exchange.sent())["status"] == 200
        await exchange.leave()

    run(body)


def test_one_feed_tells_of_all_endpoints_that_its_reader_may_see_to_their_end() -> None:
    async def body(api: Api) -> None:
        first, hidden = await api.create("first"), await api.create("hidden")
        limited = await api.key(Scope.READ, endpoints=[first["id"]])
        whole = asyncio.create_task(api.call("GET", "/feed"))
        part = asyncio.create_task(api.call("GET", "/feed?of=decisions", key=limited))
        await asyncio.sleep(1)
        later = await api.create("later")
        for each in (first, hidden, later):
            await api.world.gateway.request(each["id"], 1.0).ended.wait()
        await api.call("DELETE", "/endpoints/later")
        read = await whole
        place, *told = [one for one in _told(read.body) if one]
        assert set(place) == {"id"}
        documents = [(one["event"], json.loads(one["data"])) for one in told]
        decided = [d for name, d in documents if name == "stoker.decision"]
        assert {(d["endpoint"], d["endpoint_name"]) for d in decided} == {
            (each["id"], each["name"]) for each in (first, hidden, later)
        }
        last = [d for name, d in documents if name == "stoker.event" and d["endpoint"] == later["id"]]
        assert (last[0]["kind"], last[-1]["kind"], last[-1]["endpoint_name"]) == (
            "endpoint_created",
            "delete_success",
            "later",
        )
        own = (await api.call("GET", "/endpoints/first/decisions")).json["items"][::-1]
        more = {"endpoint": first["id"], "endpoint_name": "first"}
        assert [d for d in decided if d["endpoint"] == first["id"]] == [d | more for d in own]
        seen = [json.loads(one["data"]) for one in _told((await part).body) if "data" in one]
        assert seen == [d | more for d in own]

    run(body)


def test_the_feed_of_all_is_resumed_without_gap_or_repetition_and_begins_with_the_last_ones() -> None:
    async def body(api: Api) -> None:
        made = [await api.create(name, scaling={"idle_timeout_s": 5, "scale_down_delay_s": 5}) for name in ("a", "b")]
        every = await first(api)
        await api.call("POST", "/projects", {"name": "other"}, key=every)
        elsewhere = {"x-stoker-project": "other"}
        assert (await api.call("POST", "/endpoints", spec("c"), key=every, headers=elsewhere)).status == 201
        for each in made:
            await api.world.gateway.request(each["id"], 1.0).ended.wait()
        await asyncio.sleep(40)

        async def begun(path: str, count: int, **headers: str) -> list[dict[str, str]]:
            exchange = api.begin("GET", path, headers=headers)
            assert (await exchange.sent())["status"] == 200
            read = b""
            while not read or len(_told(read)) <= count:
                read += (await exchange.sent())["body"]
            await exchange.leave()
            return _told(read)

        lists = [f"/endpoints/{name}/{of}" for name in ("a", "b") for of in ("events?after=0", "decisions")]
        count = sum([len((await api.call("GET", path)).json["items"]) for path in lists])
        everything = (await begun("/feed?tail=100", count))[1:]
        assert len(everything) == count
        names = {json.loads(one["data"])["endpoint_name"] for one in everything}
        assert names == {"a", "b"}, "what is of another project is of nobody's business"
        for index, one in enumerate(everything):
            after = await begun("/feed", len(everything) - index - 1, **{"last-event-id": one["id"]})
            assert after == [{"id": one["id"]}, *everything[index + 1 :]]
        newest = [one for one in everything if one["event"] == "stoker.decision"][-2:]
        assert [one["data"] for one in (await begun("/feed?of=decisions&tail=2", 2))[1:]] == [o["data"] for o in newest]
        [place] = await begun("/feed", 0)
        assert [int(number) for number in place["id"].split("-")] >= [
            int(number) for number in everything[-1]["id"].split("-")
        ]
        assert (await api.call("GET", "/feed", key="")).status == 401
        refused = await api.call("GET", "/feed", headers={"last-event-id": "x"})
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/Last-Event-ID")
        exchanges = [api.begin("GET", "/feed") for _ in range(FOLLOWERS_MAX)]
        for exchange in exchanges:
            assert (await exchange.sent())["status"] == 200
        assert (await api.call("GET", "/endpoints/a/feed")).status == 429
        for exchange in exchanges:
            await exchange.leave()

    run(body)


def test_an_explanation_has_the_decision_what_would_be_decided_now_and_every_number_with_its_age() -> None:
    async def body(api: Api) -> None:
        triggers = [{"type": "concurrency", "target": 1}, {"type": "requests_per_s", "target": 5}]
        made = await api.create(scaling={"triggers": triggers, "idle_timeout_s": 600})
        await api.world.gateway.request(made["id"], 1.0).ended.wait()
        found = (await api.call("GET", "/endpoints/e/explanation")).json
        assert found["decision"]["workers"] == found["present"]["workers"] == 1
        assert [each["trigger"] for each in found["present"]["triggers"]] == ["concurrency", "requests_per_s"]
        assert set(found["present"]["ages"]) >= {"in_flight", "waiting", "arrivals_per_s(60s)"}
        assert found["workers"][0]["number"] == 1
        assert found["present"]["inputs"]["waiting"] == 0
        assert found["present"]["inputs"]["completion_tokens"] is None, "no answer has told any: that is not zero"
        assert found["given"]["policy"]["triggers"][0]["type"] == "concurrency"
        before = (await api.call("GET", "/endpoints/e/explanation?at=1h")).json
        assert (before["decision"], before["present"]) == (None, None)
        then = (await api.call("GET", f"/endpoints/e/explanation?at={found['at']}")).json
        assert then["decision"] == found["decision"]
        assert (await api.call("GET", "/endpoints/e/explanation?at=soon")).status == 422

    run(body)


@pytest.mark.parametrize(
    ("scaling", "pointer"),
    [
        ({"triggers": [{"type": "magic"}]}, "/scaling/triggers/0"),
        ({"triggers": [{"type": "requests_per_s"}]}, "/scaling/triggers/0/target"),
        ({"triggers": [{"type": "cpu"}]}, "/scaling/triggers/0"),
        ({"triggers": [{"type": "custom", "path": "stats", "metric": "m", "target": 1}]}, "/scaling/triggers/0/path"),
        ({"scale_up_steps": [{}]}, "/scaling/scale_up_steps/0/workers"),
        ({"triggers": [{"type": "concurrency"}], "target": 2}, "/scaling/target"),
        (
            {
                "triggers": [
                    {"type": "schedule", "start": "0 8 * * *", "end": "0 9 * * *", "workers": 1},
                    {"type": "schedule", "start": "30 8 * * 1", "end": "0 10 * * *", "workers": 1},
                ]
            },
            "/scaling/triggers/1",
        ),
    ],
)
def test_triggers_that_make_no_sense_are_refused_at_their_place(scaling: dict[str, Any], pointer: str) -> None:
    async def body(api: Api) -> None:
        answer = await api.call("POST", "/endpoints", {**spec(), "scaling": scaling})
        assert answer.status == 422
        assert [problem["pointer"] for problem in answer.json["errors"]] == [pointer]

    run(body)


def test_workers_are_shown_newest_first_and_ended_ones_stay_for_a_while() -> None:
    async def body(api: Api) -> None:
        await api.create(min=1)
        await asyncio.sleep(10)
        [old] = (await api.call("GET", "/endpoints/e/workers")).json["items"]
        assert (old["state"], old["host"], old["start_s"] >= 2.0) == ("ready", "h", True)
        assert old["address"] == "127.0.0.1:20000"
        api.world.provider.crash(old["id"], code=137)
        await asyncio.sleep(20)
        new, ended = (await api.call("GET", "/endpoints/e/workers")).json["items"]
        assert (new["state"], ended["state"], ended["exit_code"]) == ("ready", "failed", 137)
        assert ended["id"] == old["id"]
        assert [w["id"] for w in (await api.call("GET", "/workers")).json["items"]] == [new["id"]]
        assert (await api.call("GET", f"/workers/{old['id']}")).json["state"] == "failed"
        assert (await api.call("GET", "/workers/nobody")).status == 404

    run(body)


def test_the_log_of_a_worker_and_of_its_endpoint_is_one_json_object_a_line() -> None:
    async def body(api: Api) -> None:
        await api.create(min=2)
        await asyncio.sleep(10)
        first, second = list(api.world.provider.workers)
        for index, worker in enumerate((first, second, first)):
            api.world.provider.say(worker, f"line {index}\u2028\N{PILE OF POO}")
            await asyncio.sleep(1)
        whole = await api.call("GET", "/endpoints/e/logs")
        assert whole.headers["content-type"] == "application/x-ndjson"
        lines = [line async for line in api.begin("GET", "/endpoints/e/logs").lines()]
        assert [line["text"][:6] for line in lines] == ["line 0", "line 1", "line 2"]
        assert [line["worker"] for line in lines] == [first, second, first]
        assert set(lines[0]) == {"at", "worker", "stream", "text"}
        lines = [line async for line in api.begin("GET", "/endpoints/e/logs?tail=1").lines()]
        assert [line["text"][:6] for line in lines] == ["line 2"]
        assert (await api.call("GET", "/endpoints/e/logs?tail=0")).body == b""
        lines = [line async for line in api.begin("GET", f"/workers/{second}/logs").lines()]
        assert [line["text"][:6] for line in lines] == ["line 1"]
        for query in ("tail=-1", "tail=10001", "tail=x", "follow=perhaps"):
            assert (await api.call("GET", f"/endpoints/e/logs?{query}")).status == 422, query

    run(body)


class Reader:
    """Somebody who follows a log."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.texts: list[str] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for line in self.exchange.lines():
            self.texts.append(line["text"])

    async def leave(self) -> None:
        await self.exchange.leave()
        self.task.cancel()


def test_following_goes_on_with_the_worker_that_replaces_another() -> None:
    async def body(api: Api) -> None:
        provider = api.world.provider
        await api.create(min=1)
        await asyncio.sleep(10)
        [old] = list(provider.workers)
        provider.say(old, "before")
        reader = Reader(api.begin("GET", "/endpoints/e/logs?follow=true"))
        await asyncio.sleep(2)
        provider.say(old, "while it runs")
        await asyncio.sleep(2)
        provider.say(old, "its last words")
        provider.crash(old)
        await asyncio.sleep(20)
        [new] = list(provider.workers)
        provider.say(new, "the new one")
        await asyncio.sleep(2)
        assert reader.texts == ["before", "while it runs", "its last words", "the new one"]
        await reader.leave()
        assert [t for t in asyncio.all_tasks() if "_feed" in repr(t)] == [], "nothing is left of it"

    run(body)


def test_following_with_no_tail_shows_nothing_of_before() -> None:
    async def body(api: Api) -> None:
        provider = api.world.provider
        await api.create(min=1)
        await asyncio.sleep(10)
        [worker] = list(provider.workers)
        provider.say(worker, "before")
        await asyncio.sleep(1)
        reader = Reader(api.begin("GET", "/endpoints/e/logs?follow=true&tail=0"))
        await asyncio.sleep(2)
        provider.say(worker, "after")
        await asyncio.sleep(2)
        assert reader.texts == ["after"]
        await reader.leave()

    run(body)


def test_following_an_endpoint_ends_with_it() -> None:
    async def body(api: Api) -> None:
        await api.create(min=1)
        await asyncio.sleep(10)
        reader = Reader(api.begin("GET", "/endpoints/e/logs?follow=true"))
        await asyncio.sleep(1)
        await api.call("DELETE", "/endpoints/e")
        await asyncio.wait_for(reader.task, 60)

    run(body)


def test_measurements_are_shown_with_their_age_and_absence_is_null() -> None:
    async def body(api: Api) -> None:
        await api.create(min=1, launch={"model": "smollm2", "engine": "llamacpp"})
        await asyncio.sleep(10)
        [worker] = (await api.call("GET", "/endpoints/e/workers")).json["items"]
        api.world.pages[int(worker["address"].rpartition(":")[2])] = "llamacpp:requests_processing 2\n"
        await asyncio.sleep(6)
        [item] = (await api.call("GET", "/endpoints/e/metrics")).json["items"]
        assert (item["worker"], item["resources"]) == (worker["id"], None)
        assert item["metrics"]["values"] == {"running": 2.0}, "what the page does not say is absent"
        assert item["metrics"]["age_s"] < 6
        assert (item["metrics"]["stale"], item["metrics"]["error"]) == (False, None)
        api.world.pages.clear()
        api.world.pages[int(worker["address"].rpartition(":")[2])] = "llamacpp:requests_processing x\n"
        await asyncio.sleep(30)
        shown = (await api.call("GET", f"/workers/{worker['id']}")).json["metrics"]
        assert (shown["stale"], shown["values"]) == (True, {"running": 2.0})
        assert "not a page" in shown["error"]

    run(body)


async def _scraped(api: Api) -> dict[tuple[str, str], float]:
    """Values of the page of metrics by name, and state or signal."""
    answer = await Exchange(api.app, "GET", "/metrics", {"authorization": f"Bearer {api.secret}"}, b"").answer()
    return {
        (sample.name, sample.labels.get("state") or sample.labels.get("signal", "")): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
        if sample.labels.get("endpoint") == "e"
    }


def test_what_scaling_goes_by_is_scraped_and_what_is_missing_or_stale_is_no_zero() -> None:
    async def body(api: Api) -> None:
        await api.create(min=1, launch={"model": "smollm2", "engine": "llamacpp"})
        before = await _scraped(api)
        assert before["stoker_workers_wanted", ""] == 1
        assert ("stoker_start_expected_seconds", "") not in before, "none was seen"
        await asyncio.sleep(10)
        [worker] = (await api.call("GET", "/endpoints/e/workers")).json["items"]
        page = int(worker["address"].rpartition(":")[2])
        api.world.pages[page] = "llamacpp:requests_processing 0\n"
        await asyncio.sleep(6)
        found = await _scraped(api)
        assert found["stoker_workers", "ready"] == 1
        assert found["stoker_start_expected_seconds", ""] >= 1
        assert found["stoker_report_age_seconds", ""] < 1.5
        assert found["stoker_worker_signal", "engine.running"] == 0
        assert found["stoker_worker_signal_workers", "engine.running"] == 1
        # Nobody has measured what it takes of its machine.
        assert ("stoker_worker_signal", "cpu") not in found
        assert found["stoker_worker_signal_workers", "cpu"] == 0
        api.world.pages[page] = "llamacpp:requests_processing x\n"
        await asyncio.sleep(30)
        stale = await _scraped(api)
        assert ("stoker_worker_signal", "engine.running") not in stale
        assert stale["stoker_worker_signal_workers", "engine.running"] == 0

    run(body)

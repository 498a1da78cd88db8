"""Usage as it is answered."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.client import Api, run
from simulation.virtual import wall
from stoker.api.wire.times import moment
from stoker.domain.access import Scope
from stoker.domain.errors import Invalid
from stoker.link.messages import FactEntry, Report, UsageEntry
from stoker.simulate.trace import parse_trace


async def used(api: Api, endpoint: str, requests: int, *, metered: int = 0) -> None:
    entry = UsageEntry(endpoint, 1, None, requests, 1, metered, 10 * metered, 20 * metered)
    api.world.stoker.books.usage.reported(Report(1, 10.0, (), (entry,)), incarnation="g")
    await asyncio.sleep(6)


def test_usage_is_summed_up_with_what_is_unknown_as_null() -> None:
    async def body(api: Api) -> None:
        made = await api.create(min=1)
        await asyncio.sleep(60)
        await used(api, made["id"], 5)
        found = (await api.call("GET", "/usage")).json
        [item] = found["items"]
        assert (item["group"], item["name"], item["requests"], item["errors"]) == (made["id"], "e", 5, 1)
        assert (item["prompt_tokens"], item["completion_tokens"]) == (None, None), "no answer told its tokens"
        assert item["workers"]["started_s"] > item["workers"]["ready_s"] > 0
        assert item["workers"]["cost"] is None
        assert [hardware["hardware"] for hardware in item["hardware"]] == ["cpu"]
        assert found["total"]["requests"] == 5
        await used(api, made["id"], 6, metered=2)
        [item] = (await api.call("GET", "/usage?by=endpoint&since=2h&limit=1")).json["items"]
        assert (item["metered"], item["prompt_tokens"], item["completion_tokens"]) == (2, 20, 40)

    run(body)


@pytest.mark.parametrize(("by", "group", "name"), [("key", None, "no key"), ("project", "1", "1")])
def test_groups_have_names(by: str, group: str | None, name: str) -> None:
    async def body(api: Api) -> None:
        made = await api.create()
        await used(api, made["id"], 5)
        [item] = (await api.call("GET", f"/usage?by={by}")).json["items"]
        assert (item["group"], item["name"], item["requests"]) == (group, name, 5)
        assert (item["workers"] is None) == (by == "key")

    run(body)


def test_hours_are_moments() -> None:
    async def body(api: Api) -> None:
        made = await api.create()
        await used(api, made["id"], 5)
        [item] = (await api.call("GET", "/usage?by=hour")).json["items"]
        assert wall() - 3_601 < moment("/", item["group"], now=0) <= wall()
        assert item["group"].endswith(":00:00.000Z")

    run(body)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("since=yesterday", "/since"),
        ("since=", "/since"),
        ("until=3x", "/until"),
        ("since=1h&until=2h", "/until"),
        ("since=2000-01-01", "/since"),
        ("by=colour", "/by"),
        ("limit=0", "/limit"),
        ("since=" + "9" * 65, "/since"),
        ("since=99999-01-01", "/since"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_place(query: str, pointer: str) -> None:
    async def body(api: Api) -> None:
        answer = await api.call("GET", f"/usage?{query}")
        if query == "since=":
            assert answer.status == 200, "as if it were not said"
            return
        assert answer.status == 422, answer.body
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]

    run(body)


def test_a_key_for_one_endpoint_sees_that_one_only() -> None:
    async def body(api: Api) -> None:
        first, second = await api.create("a"), await api.create("b")
        await used(api, first["id"], 5)
        await used(api, second["id"], 7)
        key = await api.key(Scope.READ, endpoints=[second["id"]])
        found = (await api.call("GET", "/usage", key=key)).json
        assert [item["name"] for item in found["items"]] == ["b"]
        assert found["total"]["requests"] == 7

    run(body)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("10m", 99_400.0),
        ("1h30m", 94_600.0),
        ("1.5h", 94_600.0),
        ("0s", 100_000.0),
        ("1970-01-02T00:00:00Z", 86_400.0),
        ("1970-01-02T01:00:00+01:00", 86_400.0),
        ("1970-01-02", 86_400.0),
    ],
)
def test_a_time_is_a_moment_or_how_long_ago(text: str, at: float) -> None:
    assert moment("/since", text, now=100_000.0) == at


@pytest.mark.parametrize("text", ["", " ", "m", "-5m", "1y", "1969-12-31T23:00:00Z", "now", "5 m"])
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(Invalid, match="no time"):
        moment("/since", text, now=0.0)


def test_what_is_learned_is_shown_with_its_number_of_samples_and_the_unknown_as_null() -> None:
    async def body(api: Api) -> None:
        await api.create(min=1)
        empty = (await api.call("GET", "/endpoints/e/learned")).json
        assert empty == {"expected_start_s": None, "items": []}
        await asyncio.sleep(30)
        found = (await api.call("GET", "/endpoints/e/learned")).json
        [item] = found["items"]
        assert (item["provider"], item["host"]) == ("fake", "h")
        assert item["start_cold_s"]["count"] == 1
        assert found["expected_start_s"] >= item["start_cold_s"]["median"] > 1
        assert (item["start_warm_s"], item["requests_per_s"], item["tokens_per_s"]) == (None, None, None)

    run(body)


def test_a_trace_has_the_requests_that_came_as_the_simulation_reads_them(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        made = await api.create()
        facts = tuple(
            FactEntry(made["id"], offset_s, 0.0, service_s, None, prompt, None, 200, None)
            for offset_s, service_s, prompt in ((4.0, 2.5, 70), (2.0, None, None))
        )
        began = wall() - 60
        api.world.stoker.books.usage.reported(Report(1, 10.0, (), facts=facts), incarnation="g")
        await asyncio.sleep(20)
        answer = await api.call(
            "GET", f"/endpoints/e/trace?since={datetime.fromtimestamp(began, UTC).isoformat()[:-6]}Z"
        )
        assert answer.headers["content-type"].startswith("text/csv")
        [requests] = parse_trace("e", answer.body.decode().splitlines()).endpoints
        assert [round(at) for at in requests.arrivals] == [52, 54]
        assert list(requests.services) == [None, 2.5]
        assert (list(requests.input_tokens), list(requests.output_tokens)) == ([0, 70], [0, 0])
        none = await api.call("GET", "/endpoints/e/trace?since=1s")
        assert none.body.decode().splitlines() == ["arrival_s,input_tokens,output_tokens,service_s"]
        assert (await api.call("GET", "/endpoints/e/trace?since=soon")).status == 422

    run(body, data_dir=tmp_path)

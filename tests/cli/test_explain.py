"""`stoker explain`."""

from __future__ import annotations

import json
from typing import Any

from cli.fake_stoker import Command, FakeStoker, Raw, problem
from cli.test_task_events import sent


def decision(**more: Any) -> dict[str, Any]:
    demand = {"trigger": "concurrency", "workers": 3, "value": 9.0, "target": 3.0, "age_s": 0.5, "held": 0}
    return {
        "at": "2026-01-02T03:04:05.000Z",
        "current": 1,
        "workers": 2,
        "reason": "9 requests present, 3 for each worker (at most 2)",
        "inputs": {"in_flight": 9, "waiting": 0},
        "ages": {"in_flight": 0.5, "waiting": 0.5},
        "triggers": [demand | {"text": "9 requests present, 3 for each worker"}],
        "limits": ["at most 2"],
        "advisory": False,
        **more,
    }


def answer(**more: Any) -> dict[str, Any]:
    return {"at": "2026-01-02T03:05:05.000Z", "decision": decision(), "present": None, "workers": [], **more}


def test_a_decision_is_told_in_one_sentence_and_then_with_its_inputs(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat")
    fake.on("GET", f"/endpoints/{made['id']}/explanation", answer())
    ran = stoker("explain", "chat", "--at", "10m")
    assert ran.code == 0
    assert fake.asked[-1].query == {"at": "10m"}
    for text in ("from 1 to 2 workers: 9 requests present", "concurrency", "limit 1: at most 2", "in_flight 9"):
        assert text in ran.out


def test_the_present_is_told_with_what_is_known_of_workers(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat")
    unknown = {"trigger": "cpu", "workers": None, "value": None, "target": 0.8, "age_s": None, "held": 0, "text": "old"}
    present = decision(current=2, advisory=True, triggers=[unknown])
    workers = [{"number": 7, "numbers": {"cpu": {"value": 0.5, "age_s": 20.0, "stale": True}}}]
    fake.on("GET", f"/endpoints/{made['id']}/explanation", answer(present=present, workers=workers))
    out = stoker("explain", "chat").out
    assert "now: advises: stays at 2 workers" in out
    assert "unknown" in out
    assert "worker 7: cpu 0.5 (20s old, stale)" in out


def test_numbers_are_told_by_age_and_what_is_not_known_is_no_zero(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat")
    inputs = {"in_flight": 0, "start_s": 12.5, "auto.kept": 2, "auto.rise": 0, "service_s": None, "resume_s": None}
    ages = {"in_flight": 0.5, "start_s": 90.0, "auto.kept": 0.5, "auto.rise": 0.5}
    fake.on("GET", f"/endpoints/{made['id']}/explanation", answer(present=decision(inputs=inputs, ages=ages)))
    lines = stoker("explain", "chat").out.splitlines()
    assert lines[-4:] == [
        "numbers, 0.5s old: in_flight 0",
        "numbers, 90s old: start_s 12.5",
        "auto's numbers, 0.5s old: kept 2, rise 0",
        "not known so far: service_s, resume_s",
    ]


def test_nothing_decided_is_said_and_json_is_what_the_api_said(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat")
    fake.on("GET", f"/endpoints/{made['id']}/explanation", answer(decision=None))
    assert "nothing was decided for chat" in stoker("explain", "chat", "--at", "90d").err
    assert json.loads(stoker("explain", "chat", "--json").out)["decision"] is None


def fed(id: str, **more: Any) -> tuple[str, str, str]:
    return id, "stoker.decision", json.dumps(decision(**more))


def test_decisions_are_followed_over_broken_connections_until_the_endpoint_is_gone(
    stoker: Command, fake: FakeStoker
) -> None:
    made = fake.add("chat")
    place = Raw((b"id: 0-1\n\n",), "text/event-stream")
    first, then = sent(fed("0-2")), sent(fed("0-3", current=2, workers=0, reason="idle for 300 s"))
    answers: list[Any] = [place, first, then, (404, problem(404, "no endpoint"))]
    fake.on("GET", f"/endpoints/{made['id']}/feed", lambda _: answers.pop(0))
    ran = stoker("explain", "chat", "--follow")
    assert ran.code == 0
    one, two = ran.out.splitlines()
    assert one.endswith("from 1 to 2 workers: 9 requests present, 3 for each worker (at most 2)")
    assert two.endswith("from 2 to 0 workers: idle for 300 s")
    assert "chat is deleted" in ran.err
    asked = [each for each in fake.asked if each.path.endswith("/feed")]
    assert [each.headers.get("last-event-id") for each in asked] == [None, "0-1", "0-2", "0-3"]
    assert asked[0].query == {"of": "decisions", "tail": "1"}


def test_without_an_endpoint_the_decisions_of_all_are_followed(stoker: Command, fake: FakeStoker) -> None:
    more = {"endpoint": "id", "endpoint_name": "chat"}
    answers: list[Any] = [sent(fed("0-2", **more)), (403, problem(403, "not yours"))]
    fake.on("GET", "/feed", lambda _: answers.pop(0))
    ran = stoker("explain", "--follow")
    assert ran.out.strip().endswith("chat from 1 to 2 workers: 9 requests present, 3 for each worker (at most 2)")
    assert "not yours" in ran.err
    assert ran.code != 0
    assert fake.asked[-2].query == {"of": "decisions", "tail": "1"}
    assert stoker("explain").code == 2


def test_followed_decisions_are_a_json_object_a_line_and_are_none_of_a_time(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat")
    answers: list[Any] = [sent(fed("0-2"), fed("0-3")), (404, problem(404, "no endpoint"))]
    fake.on("GET", f"/endpoints/{made['id']}/feed", lambda _: answers.pop(0))
    lines = stoker("explain", "chat", "-f", "--json").out.splitlines()
    assert [json.loads(line) for line in lines] == [decision(), decision()]
    assert stoker("explain", "chat", "-f", "--at", "10m").code == 2

"""`stoker explain`."""

from __future__ import annotations

import json
from typing import Any

from cli.fake_stoker import Command, FakeStoker


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


def test_nothing_decided_is_said_and_json_is_what_the_api_said(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat")
    fake.on("GET", f"/endpoints/{made['id']}/explanation", answer(decision=None))
    assert "nothing was decided for chat" in stoker("explain", "chat", "--at", "90d").err
    assert json.loads(stoker("explain", "chat", "--json").out)["decision"] is None

"""Looking at endpoints, and changing those that exist."""

from __future__ import annotations

import json

import pytest

from cli.fake_stoker import CREATED, Command, FakeStoker, Raw, event, operation, page, problem, worker


def test_ls_shows_one_line_for_each_endpoint(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat", state="ready", workers={"ready": 1}, desired=2, traffic={"in_flight": 3, "waiting": 5})
    fake.add("My Other")
    ran = stoker("ls")
    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0][:4] == ["NAME", "STATE", "WORKERS", "BOUNDS"]
    assert lines[1][:7] == ["chat", "ready", "1/2", "0-1", "3", "5", "smollm2"]
    assert lines[2][:6] == ["My", "Other", "idle", "0/0", "0-1", "-"]


def test_ls_follows_the_pages(stoker: Command, fake: FakeStoker) -> None:
    first, second = fake.add("a"), fake.add("b")
    fake.on(
        "GET", "/endpoints", lambda asked: page([second]) if asked.query.get("cursor") == "1" else page([first], "1")
    )
    assert [item["name"] for item in json.loads(stoker("ls", "--json").out)] == ["a", "b"]


def test_ls_says_what_to_do_where_there_is_nothing(stoker: Command) -> None:
    ran = stoker("ls")
    assert (ran.code, ran.out) == (0, "")
    assert "stoker deploy smollm2" in ran.err


def test_ps_lists_live_workers_with_their_start(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/workers", page([worker(7, gpus=[0, 1]), worker(8, ended_at="2026-01-02T03:04:06Z")]))
    lines = stoker("ps").out.splitlines()
    assert len(lines) == 2
    assert lines[1].split()[:10] == ["7", "chat", "ready", "default", "1", "0", "127.0.0.1:20001", "0,1", "-", "1.2s"]


def test_ps_shows_what_a_worker_costs_and_that_its_cards_are_pretended(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/workers", page([worker(7, gpus=[0], virtual=True, price_per_hour=2.5, currency="EUR")]))
    assert "0 (virtual)  2.5 EUR" in stoker("ps").out


def test_ps_of_one_endpoint_may_show_ended_ones(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat")
    gone = worker(8, state="failed", reason="exit code 1", ended_at="2026-01-02T03:04:06Z")
    fake.on("GET", f"/endpoints/{made['id']}/workers", page([gone]))
    assert "exit code 1" in stoker("ps", "--all", "chat").out
    assert stoker("ps", "chat").out == ""
    assert stoker("ps", "--all").code == 2


def test_show_tells_all_about_an_endpoint(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat", state="failing", state_reason="exit code 1", override={"workers": 2, "until": None})
    path = f"/endpoints/{made['id']}"
    fake.on("GET", f"{path}/workers", page([worker(7)]))
    fake.on("GET", f"{path}/events", page([event(1, "worker 7 failed", level="error")]))
    decision = {"at": "2026-01-02T03:04:05Z", "current": 0, "workers": 1, "reason": "demand", "inputs": {}}
    fake.on("GET", f"{path}/decisions", page([decision]))
    ran = stoker("show", "chat")
    assert ran.code == 0
    for text in ("failing: exit code 1", "2 by hand, until undone", "1: demand", "worker 7 failed", "127.0.0.1:20001"):
        assert text in ran.out
    whole = json.loads(stoker("show", "chat", "--json").out)
    assert set(whole) == {"endpoint", "workers", "events", "decisions", "learned"}


def test_show_tells_what_workers_do_and_what_is_learned_of_them(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat")
    path = f"/endpoints/{made['id']}"
    gpu = {"id": "GPU-0", "utilization": 0.4, "memory_bytes": 2**31, "memory_total_bytes": 2**35}
    values = {"running": 3.0, "waiting": 0.0, "cache_usage": 0.25}
    full = worker(
        7,
        metrics={"age_s": 2.0, "stale": False, "values": values, "error": None},
        resources={"age_s": 1.0, "stale": False, "cpus": 1.5, "memory_bytes": 2**30, "gpus": [gpu]},
    )
    mute = worker(8, metrics={"age_s": None, "stale": True, "values": {}, "error": "HTTP 404"}, resources=None)
    fake.on("GET", f"{path}/workers", page([full, mute, worker(9)]))
    known = {"count": 3, "median": 4.25, "p90": 5.0}
    learned = {"host": "h", "start_cold_s": None, "start_warm_s": known, "requests_per_s": None, "tokens_per_s": None}
    fake.on("GET", f"{path}/learned", {"expected_start_s": 5.0, "items": [learned]})
    ran = stoker("show", "chat")
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["7", "1.50", "1.00", "GiB", "40%", "2.00", "GiB", "3.0", "0.0", "25%", "2.0s", "-"] in lines
    assert ["8", "-", "-", "-", "-", "-", "-", "-", "never,", "stale", "HTTP", "404"] in lines
    assert "h: start 4.2 s (of 3)" in ran.out


@pytest.mark.parametrize("reference", ["My Chat (v2)", "1", "0190-1"])
def test_an_endpoint_is_found_by_name_number_or_id(stoker: Command, fake: FakeStoker, reference: str) -> None:
    fake.add("My Chat (v2)")
    assert "My Chat (v2)" in stoker("show", reference).out


def test_an_unknown_endpoint_has_an_exit_code_of_its_own(stoker: Command) -> None:
    for reference in ("nobody", "no body"):
        ran = stoker("show", reference)
        assert (ran.code, ran.out) == (4, "")
        assert "stoker ls" in ran.err


def test_scale_by_hand_for_a_while(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat", workers={"ready": 3}, state="ready")
    ran = stoker("scale", "chat", "3", "--for", "10m")
    assert (ran.code, ran.out) == (0, "chat is ready (3 ready)\n")
    assert fake.of("POST")[0].path == "/api/v1/endpoints/0190-1:scale"
    assert fake.of("POST")[0].body == {"workers": 3, "for_s": 600}


def test_scale_back_to_the_policy(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    assert stoker("scale", "chat", "--auto").code == 0
    assert fake.of("POST")[0].body == {"workers": None, "for_s": None}


@pytest.mark.parametrize(
    "arguments", [(), ("3", "--auto"), ("--auto", "--for", "10m"), ("3", "--for", "soon"), ("many",)]
)
def test_scale_says_when_it_makes_no_sense(stoker: Command, fake: FakeStoker, arguments: tuple[str, ...]) -> None:
    fake.add("chat")
    assert stoker("scale", "chat", *arguments).code == 2
    assert fake.of("POST") == []


def test_stop_and_start_wait_for_their_operation(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    pending = operation("stop", ended=False)
    fake.on("POST", "/endpoints/0190-1:stop", (202, {"endpoint": fake.endpoints["0190-1"], "operation": pending}))
    fake.on("GET", "/endpoints/0190-1/events", page([event(5, "worker 1 drains")]))
    ran = stoker("stop", "chat")
    assert ran.code == 0
    assert "worker 1 drains" in ran.err
    assert stoker("start", "chat", "--no-wait").code == 0


def test_what_changes_nothing_is_said(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat", state="stopped")
    fake.on("POST", "/endpoints/0190-1:stop", (202, {"endpoint": made, "operation": None}))
    assert stoker("stop", "chat").out == "chat is stopped already; nothing to do\n"


def test_rm_asks_unless_told_not_to(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    assert stoker("rm", "chat").code == 2
    assert fake.of("DELETE") == []
    ran = stoker("rm", "chat", "--yes")
    assert (ran.code, ran.out) == (0, "chat is removed\n")
    assert fake.endpoints == {}


def test_a_failed_operation_shows_the_last_output(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat")
    failed = operation("start", state="failure", message="worker 1 ended with exit code 1")
    fake.on("POST", "/endpoints/0190-1:start", (202, {"endpoint": made, "operation": failed}))
    line = json.dumps({"at": "2026-01-02T03:04:05Z", "worker": "w", "stream": "stderr", "text": "no such file"})
    fake.on("GET", "/endpoints/0190-1/logs", Raw((line.encode() + b"\n",), "application/x-ndjson"))
    ran = stoker("start", "chat")
    assert ran.code == 1
    assert "worker 1 ended with exit code 1" in ran.err
    assert "no such file" in ran.err


def test_a_wait_that_is_over_has_an_exit_code_of_its_own(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat")
    fake.on("POST", "/endpoints/0190-1:start", (202, {"endpoint": made, "operation": operation("start", ended=False)}))
    fake.on("GET", "/operations/start", operation("start", ended=False))
    ran = stoker("start", "chat", "--timeout", "20ms")
    assert ran.code == 5
    assert "goes on in the background" in ran.err


def test_a_conflict_is_a_refusal(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    fake.on("POST", "/endpoints/0190-1:start", (409, problem(409, "it is being deleted")))
    ran = stoker("start", "chat")
    assert (ran.code, ran.err) == (1, "error: it is being deleted\n")


def test_revisions_are_listed_with_what_each_changed_and_gone_back_to(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat")
    change = {"pointer": "/launch/model", "before": "a", "after": "b"}
    item = {"number": 2, "present": True, "created_at": CREATED, "changes": [change], "spec": {}}
    fake.on("GET", f"/endpoints/{made['id']}/revisions", {"items": [item], "next": None})
    lines = stoker("revisions", "chat").out.splitlines()
    assert lines[1].split()[:2] == ["2", "yes"]
    assert "/launch/model" in lines[1]
    fake.on("POST", f"/endpoints/{made['id']}:rollback", {"endpoint": made, "operation": None})
    assert stoker("rollback", "chat", "--to", "1").code == 0
    assert fake.of("POST")[-1].body == {"revision": 1}

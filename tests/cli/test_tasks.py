"""`stoker task`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acceptance.installation import until
from cli.fake_stoker import CREATED, Asked, Command, FakeStoker, page


def task(**more: Any) -> dict[str, Any]:
    return {
        "id": "t1",
        "number": 1,
        "state": "queued",
        "priority": 0,
        "cancelling": False,
        "attempts": 0,
        "attempts_max": 3,
        "status": None,
        "worker": None,
        "reason": "",
        "input_bytes": 1,
        "result_bytes": None,
        "result_type": None,
        "created_at": CREATED,
        "started_at": None,
        "ended_at": None,
        "next_attempt_at": None,
        "expires_at": None,
        "tried": [],
        **more,
    }


DONE = task(state="succeeded", attempts=1, status=200, result_bytes=6, ended_at=CREATED)
FAILED = task(state="failed", attempts=3, status=500, reason="the worker answered with status 500", ended_at=CREATED)


def test_a_task_is_submitted_with_what_was_said(stoker: Command, fake: FakeStoker, tmp_path: Path) -> None:
    fake.on("POST", "/endpoints/chat/tasks", (202, task(created=True)))
    made = stoker("task", "submit", "chat", "--input", '{"a": 1}', "--id", "t1", "--priority", "2", "--path", "/run")
    assert made.out == "task t1 is queued\n"
    assert fake.of("POST")[0].body == {"input": {"a": 1}, "priority": 2, "id": "t1", "path": "/run"}
    file = tmp_path / "input.json"
    file.write_text("[1]")
    assert json.loads(stoker("task", "submit", "chat", "--input", f"@{file}", "--json").out)["id"] == "t1"
    assert fake.of("POST")[1].body == {"input": [1], "priority": 0}
    wrong = stoker("task", "submit", "chat", "--input", "{")
    assert (wrong.code, "not JSON" in wrong.err) == (2, True)


def test_a_file_goes_as_it_is_and_a_request_is_what_was_said(stoker: Command, fake: FakeStoker, tmp_path: Path) -> None:
    fake.on("POST", "/endpoints/chat/tasks", (202, task(created=True)))
    fake.on("POST", "/endpoints/chat/tasks:raw", (202, task(created=True)))
    request = ("--method", "PUT", "--port", "9000", "--header", "X-A: b", "--ttl", "60", "--execution-timeout", "5")
    told = ("--webhook", "https://a.example", "--secret", "signing")
    stoker("task", "submit", "chat", "--input", "1", *request, *told)
    assert fake.of("POST")[0].body == {
        "input": 1,
        "priority": 0,
        "method": "PUT",
        "port": 9000,
        "headers": {"X-A": "b"},
        "ttl_s": 60,
        "execution_timeout_s": 5,
        "webhook": {"url": "https://a.example", "secret": "signing"},
    }
    file = tmp_path / "picture.json"
    file.write_bytes(b'{"raw":  1}')
    assert stoker("task", "submit", "chat", "--file", str(file), *request, *told).code == 0
    raw = fake.of("POST")[1]
    assert (raw.body, raw.headers["content-type"]) == ({"raw": 1}, "application/json")
    said = {"header": "X-A: b", "port": "9000", "method": "PUT", "webhook_secret": "signing", "ttl_s": "60.0"}
    assert said.items() <= raw.query.items()
    wrong = stoker("task", "submit", "chat", "--input", "1", "--header", "nothing")
    assert (wrong.code, "no header" in wrong.err) == (2, True)


def test_the_key_of_a_webhook_comes_from_a_file_and_never_from_the_command_line(
    stoker: Command, fake: FakeStoker, tmp_path: Path
) -> None:
    fake.on("POST", "/endpoints/chat/tasks", (202, task(created=True)))
    fake.on("POST", "/endpoints/chat/tasks:raw", (202, task(created=True)))
    file = tmp_path / "key"
    file.write_text("whsec_abc\n")
    told = ("--webhook", "https://a.example", "--webhook-key-file", str(file))
    stoker("task", "submit", "chat", "--input", "1", *told)
    assert fake.of("POST")[0].body["webhook"] == {"url": "https://a.example", "key": "whsec_abc"}
    picture = tmp_path / "picture.json"
    picture.write_text("1")
    stoker("task", "submit", "chat", "--file", str(picture), *told)
    assert fake.of("POST")[1].headers["x-stoker-webhook-key"] == "whsec_abc"
    assert "webhook_key" not in fake.of("POST")[1].query
    both = stoker("task", "submit", "chat", "--webhook", "https://a.example", "--webhook-key-file", "-")
    assert (both.code, "stdin" in both.err) == (2, True)
    file.write_text("two\nlines\n")
    assert stoker("task", "submit", "chat", "--input", "1", *told).code == 2


def test_waiting_prints_the_result_or_says_what_went_wrong(stoker: Command, fake: FakeStoker) -> None:
    fake.on("POST", "/endpoints/chat/tasks", (202, task(created=True)))
    fake.on("GET", "/endpoints/chat/tasks/t1/wait", DONE)
    fake.on("GET", "/endpoints/chat/tasks/t1/result", {"a": 1})
    done = stoker("task", "submit", "chat", "--input", "1", "--wait")
    assert (done.code, json.loads(done.out)) == (0, {"a": 1})
    fake.on("GET", "/endpoints/chat/tasks/t1", FAILED)
    fake.on("GET", "/endpoints/chat/tasks/t1/result", {"error": 1})
    failed = stoker("task", "wait", "chat", "t1")
    assert (failed.code, "status 500" in failed.err) == (1, True)
    fake.on("GET", "/endpoints/chat/tasks/t1", task())
    late = stoker("task", "wait", "chat", "t1", "--timeout", "0")
    assert late.code == 5


def test_a_batch_is_a_document_for_each_line(stoker: Command, fake: FakeStoker, tmp_path: Path) -> None:
    file = tmp_path / "batch.jsonl"
    file.write_text('{"input": 1}\n\n{"input": 2}\n')
    fake.on("POST", "/endpoints/chat/tasks:batch", (202, {"items": [task(), task(id="t2")]}))
    assert stoker("task", "submit", "chat", "--batch", str(file)).out == "2 tasks: 2 queued\n"
    assert fake.of("POST")[0].body == {"tasks": [{"input": 1}, {"input": 2}]}
    fake.on("GET", "/endpoints/chat/tasks/t1/wait", DONE)
    fake.on("GET", "/endpoints/chat/tasks/t2/wait", {**FAILED, "id": "t2"})
    waited = stoker("task", "submit", "chat", "--batch", str(file), "--wait")
    assert (waited.code, waited.out) == (1, "2 tasks: 1 succeeded, 1 failed\n")
    file.write_text("[]\n")
    wrong = stoker("task", "submit", "chat", "--batch", str(file))
    assert (wrong.code, "line 1" in wrong.err) == (2, True)


class Terminal(io.StringIO):
    """Standard error that a person looks at."""

    def isatty(self) -> bool:
        return True


def shows(terminal: Terminal, text: str, answer: Any) -> Callable[[Asked], Any]:
    """Answers once the person can read that."""

    def answered(_: Asked) -> Any:
        until(lambda: text in terminal.getvalue(), what=text)
        return answer

    return answered


def test_a_person_sees_how_far_it_is(
    stoker: Command, fake: FakeStoker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "batch.jsonl"
    file.write_text('{"input": 1}\n{"input": 2}\n')
    fake.on("POST", "/endpoints/chat/tasks:batch", (202, {"items": [task(), task(id="t2")]}))
    fake.on("GET", "/endpoints/chat/tasks/t1/wait", shows(terminal, f"submitted [{'#' * 20}] 2 of 2", DONE))
    half = f"ended [{'#' * 10}{'.' * 10}] 1 of 2"
    fake.on("GET", "/endpoints/chat/tasks/t2/wait", shows(terminal, half, {**DONE, "id": "t2"}))
    assert stoker("task", "submit", "chat", "--batch", str(file), "--wait").code == 0
    answers = [task(state="running"), DONE]
    fake.on("GET", "/endpoints/chat/tasks/t1", task())
    fake.on(
        "GET",
        "/endpoints/chat/tasks/t1/wait",
        lambda asked: (
            answers.pop(0) if len(answers) > 1 else shows(terminal, "running, attempt 1 of 3", answers[0])(asked)
        ),
    )
    fake.on("GET", "/endpoints/chat/tasks/t1/result", {"a": 1})
    assert stoker("task", "wait", "chat", "t1").code == 0


def test_tasks_are_listed_shown_cancelled_and_made_anew(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/endpoints/chat/tasks", page([task(), FAILED]))
    assert "3/3" in stoker("task", "ls", "chat", "--state", "failed").out.splitlines()[2]
    tried = {"number": 1, "outcome": "answered", "status": 500, "reason": "", "worker": "w"}
    fake.on("GET", "/endpoints/chat/tasks/t1", {**FAILED, "tried": [tried]})
    assert "attempt 1: answered 500" in stoker("task", "show", "chat", "t1").out
    fake.on("POST", "/endpoints/chat/tasks/t1:cancel", task(state="running", cancelling=True))
    assert stoker("task", "cancel", "chat", "t1").out == "task t1 is being cancelled\n"
    fake.on("POST", "/endpoints/chat/tasks/t1:retry", (202, task(id="t9")))
    assert stoker("task", "retry", "chat", "t1").out == "task t9 is queued\n"


def test_a_queue_is_paused_resumed_and_purged_when_that_is_said_aloud(stoker: Command, fake: FakeStoker) -> None:
    queue = {"queued": 3, "ready": 0, "running": 1, "oldest_age_s": 1.0, "paused": True, "counts": {}}
    fake.on("POST", "/endpoints/chat/queue:pause", queue)
    fake.on("POST", "/endpoints/chat/queue:resume", {**queue, "paused": False})
    fake.on("GET", "/endpoints/chat/queue", queue)
    fake.on("POST", "/endpoints/chat/queue:purge", {"purged": 3})
    assert stoker("task", "pause", "chat").out == "the queue is paused: 3 queued, 1 running\n"
    assert stoker("task", "resume", "chat").out == "the queue is open: 3 queued, 1 running\n"
    refused = stoker("task", "purge", "chat")
    assert (refused.code, "3 tasks wait" in refused.err) == (2, True)
    assert stoker("task", "purge", "chat", "--yes").out == "3 tasks cancelled\n"


def test_webhooks_are_listed_and_sent_again(stoker: Command, fake: FakeStoker) -> None:
    webhook = {"id": "msg_1", "task": "t1", "event": "task.failed", "state": "failed", "tries": 14, "status": 404}
    fake.on("GET", "/endpoints/chat/webhooks", page([{**webhook, "error": "it answered with status 404"}]))
    assert "status 404" in stoker("task", "webhooks", "chat").out
    fake.on("POST", "/endpoints/chat/webhooks/msg_1:redeliver", (202, {**webhook, "state": "pending"}))
    assert stoker("task", "redeliver", "chat", "msg_1").out == "webhook msg_1 is pending\n"

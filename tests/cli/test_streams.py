"""Commands that show something as it comes: logs and chat."""

from __future__ import annotations

import io
import json

import pytest

from cli.fake_stoker import Command, FakeStoker, Raw, page, problem, worker

NDJSON = "application/x-ndjson"


def _entry(worker_id: str, text: str) -> bytes:
    return json.dumps({"at": "2026-01-02T03:04:05Z", "worker": worker_id, "stream": "stdout", "text": text}).encode()


def test_logs_say_when_and_by_whom(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    fake.on("GET", "/endpoints/0190-1/workers", page([worker(7)]))
    lines = _entry("w-0007", "loading") + b"\n" + _entry("w-0007", "gr\x1b[31müße") + b"\n" + _entry("x-abcd", "x")
    # Pieces need not end where lines do.
    fake.on("GET", "/endpoints/0190-1/logs", Raw((lines[:30], lines[30:]), NDJSON))
    ran = stoker("logs", "chat", "--tail", "3")
    assert [line.split(" ", 1)[1] for line in ran.out.splitlines()] == [
        "  #7 loading",
        "  #7 gr\ufffd[31müße",
        "#abcd x",
    ]
    assert {"tail": "3", "follow": "false"} in [asked.query for asked in fake.asked]


def test_logs_of_one_worker_follow_it(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    fake.on("GET", "/endpoints/0190-1/workers", page([worker(7)]))
    fake.on("GET", "/workers/w-0007/logs", Raw((_entry("w-0007", "only this"),), NDJSON))
    assert stoker("logs", "-f", "--worker", "7", "chat").out.endswith("only this\n")
    assert {"follow": "true"} in [asked.query for asked in fake.asked]


def test_logs_are_asked_for_from_a_time_on(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    fake.on("GET", "/endpoints/0190-1/workers", page([worker(7)]))
    fake.on("GET", "/endpoints/0190-1/logs", Raw((_entry("w-0007", "only this"),), NDJSON))
    assert stoker("logs", "--since", "10m", "--tail", "5", "chat").out.endswith("only this\n")
    assert {"since": "10m", "tail": "5", "follow": "false"} in [asked.query for asked in fake.asked]
    assert stoker("logs", "--worker", "9", "chat").code == 4


def test_logs_as_json_are_the_lines_as_they_are(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    fake.on("GET", "/endpoints/0190-1/logs", Raw((_entry("w", "x") + b"\n",), NDJSON))
    assert json.loads(stoker("logs", "chat", "--json").out)["text"] == "x"


def _sse(*texts: str, done: bool = True, usage: bool = True) -> Raw:
    events: list[object] = [{"choices": [{"delta": {"role": "assistant", "content": None}}]}]
    events += [{"choices": [{"delta": {"content": text}}]} for text in texts]
    if usage:
        events.append({"choices": [], "usage": {"completion_tokens": len(texts)}})
    lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    return Raw((*lines, b"data: [DONE]\n\n") if done else tuple(lines), "text/event-stream")


def test_chat_streams_the_answer_and_shows_its_speed_apart(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    fake.on("POST", "/v1/chat/completions", _sse("Hel", "lo", "!"))
    ran = stoker("chat", "chat", "Say hello", "--max-tokens", "8", "--system", "Be brief", "--temperature", "0")
    assert (ran.code, ran.out) == (0, "Hello!\n")
    assert ran.err.startswith("[first token ")
    assert ", 3 tokens in " in ran.err
    asked = fake.of("POST")[0]
    assert asked.headers["x-stoker-endpoint"] == "chat"
    assert asked.body["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Say hello"},
    ]
    assert (asked.body["model"], asked.body["max_tokens"], asked.body["stream"]) == ("smollm2", 8, True)


def test_chat_as_json_is_one_document(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    fake.on("POST", "/v1/chat/completions", _sse("a", "b"))
    said = json.loads(stoker("chat", "chat", "x", "--json").out)
    assert (said["text"], said["tokens"]) == ("ab", 2)


def test_chat_goes_on_with_what_was_said(stoker: Command, fake: FakeStoker, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.add("chat")
    fake.on("POST", "/v1/chat/completions", _sse("yes"))
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\n"))
    ran = stoker("chat", "chat")
    assert ran.code == 0
    assert ran.out.count("yes\n") == 2
    assert [turn["content"] for turn in fake.of("POST")[1].body["messages"]] == ["one", "yes", "two"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(_sse("a", done=False), "broke off", id="cut off"),
        pytest.param(Raw((b'data: {"error": {"message": "out of memory"}}\n\n',)), "out of memory", id="error inside"),
        pytest.param(Raw((b"data: {oops\n\n",)), "no JSON", id="garbage"),
        pytest.param((503, {"error": {"message": "start failed"}}), "start failed", id="refused in OpenAI's words"),
        pytest.param((429, problem(429, "the waiting room is full")), "waiting room is full", id="refused in ours"),
    ],
)
def test_chat_ends_with_the_reason_when_the_answer_does_not_come(
    stoker: Command, fake: FakeStoker, answer: object, message: str
) -> None:
    fake.add("chat")
    fake.on("POST", "/v1/chat/completions", answer)
    ran = stoker("chat", "chat", "x")
    assert ran.code == 1
    assert message in ran.err


def test_an_empty_answer_is_no_error(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    fake.on("POST", "/v1/chat/completions", _sse(usage=False))
    ran = stoker("chat", "chat", "x")
    assert ran.code == 0
    assert "no answer" in ran.err


def test_the_key_is_sent_to_the_front_too(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    fake.on("POST", "/v1/chat/completions", _sse("x"))
    stoker("chat", "chat", "x")
    assert fake.of("POST")[0].headers["authorization"] == "Bearer sk-test"

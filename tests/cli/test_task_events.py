"""`stoker task follow`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cli.fake_stoker import Asked, Command, FakeStoker, Raw
from cli.test_tasks import DONE, FAILED, task

PATH = "/endpoints/chat/tasks/t1/events"


def sent(*events: tuple[str, str, str]) -> Raw:
    """Events as the API sends them, in pieces that end anywhere."""
    text = ":\n\n"
    for id, name, data in events:
        lines = [f"id: {id}", *([f"event: {name}"] if name else []), *(f"data: {line}" for line in data.split("\n"))]
        text += "\n".join(lines) + "\n\n"
    raw = text.encode()
    return Raw((raw[:9], raw[9:]), "text/event-stream")


def state(id: str, document: dict[str, Any]) -> tuple[str, str, str]:
    return id, "stoker.task", json.dumps(document)


RUNNING = task(state="running", attempts=0)


def test_answers_go_to_stdout_and_states_to_stderr(stoker: Command, fake: FakeStoker) -> None:
    pieces = (("1-3", "output", json.dumps("one\n")), ("1-9", "", "a\nb"), ("1-12", "output", json.dumps("\x1b[2J")))
    fake.on("GET", PATH, sent(state("1-0", RUNNING), *pieces, state("1-end", DONE)))
    ran = stoker("task", "follow", "chat", "t1", "--after", "0-0")
    assert (ran.code, ran.out) == (0, "one\na\nb\n\ufffd[2J")
    assert ran.err.splitlines() == ["task t1 is running, attempt 1 of 3", "task t1 is succeeded"]
    assert fake.asked[-1].headers["last-event-id"] == "0-0"


def broken_once(first: Raw, then: Raw) -> Callable[[Asked], Raw]:
    answers = [first, then]
    return lambda _: answers.pop(0)


def test_a_stream_that_breaks_goes_on_after_its_last_event(stoker: Command, fake: FakeStoker) -> None:
    first = sent(state("1-0", RUNNING), ("1-3", "output", json.dumps("one ")))
    fake.on("GET", PATH, broken_once(first, sent(("1-6", "output", json.dumps("two")), state("1-end", FAILED))))
    ran = stoker("task", "follow", "chat", "t1", "--json")
    assert ran.code == 1
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["id"] for line in lines] == ["1-0", "1-3", "1-6", "1-end"]
    assert [asked.headers.get("last-event-id") for asked in fake.asked] == [None, "1-3"]


def test_nothing_more_is_no_error(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", PATH, Raw((), "text/event-stream", 204))
    assert stoker("task", "follow", "chat", "t1", "--after", "1-end").code == 0

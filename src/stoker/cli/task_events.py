"""`stoker task follow`: what happens to a task and what its worker answers, as it comes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from stoker.cli import output
from stoker.cli.client import API, LINE_BYTES_MAX, Client
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

if TYPE_CHECKING:
    from http.client import HTTPResponse

# The server says something every few seconds.
SILENCE_S_MAX = 120.0
# Without anything new in between.
TRIES_MAX = 10
RETRY_S = 0.1
RETRY_S_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event."""

    id: str
    name: str
    data: str


@command
def follow(
    session: Session,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its name, slug, number or id.")],
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task's id.")],
    after: Annotated[str | None, typer.Option(help="Go on after the event with this id.")] = None,
) -> None:
    """Show what happens to a task and what its worker answers, as it comes, until its end.

    Answers go to stdout, states to stderr. A connection that breaks is made again, and nothing is shown twice.
    """
    path = f"{API}/endpoints/{quote(endpoint, safe='')}/tasks/{quote(task, safe='')}/events"
    last: dict[str, Any] | None = None
    for event in _followed(session.client, path, after):
        if event.name == "stoker.task":
            last = json.loads(event.data)
        if session.as_json:
            output.line(json.dumps({"id": event.id, "event": event.name or "message", "data": event.data}))
        else:
            _show(event, last)
    if last is not None and last["state"] != "succeeded":
        raise CliError(f"task {last['id']} is {last['state']}: {last['reason']}", Exit.FAILED)


def _show(event: Event, last: dict[str, Any] | None) -> None:
    if event.name == "stoker.task" and last is not None:
        running = f", attempt {last['attempts'] + 1} of {last['attempts_max']}" if last["state"] == "running" else ""
        output.note(f"task {last['id']} is {last['state']}{running}")
    elif event.name == "output":
        sys.stdout.write(output.visible(json.loads(event.data)))
        sys.stdout.flush()
    else:
        output.line(event.data)


def _followed(client: Client, path: str, after: str | None) -> Iterator[Event]:
    """All events, over broken connections. Raises `CliError` when none comes of it any more."""
    tries = 0
    while True:
        ended = False
        headers = {} if after is None else {"Last-Event-ID": after}
        try:
            with client.open("GET", path, headers=headers, timeout_s=SILENCE_S_MAX) as response:
                if response.status == 204:
                    return
                for event in _events(response):
                    after, tries = event.id, 0
                    ended = event.name == "stoker.task" and json.loads(event.data)["ended_at"] is not None
                    yield event
        except CliError as exc:
            if exc.code is not Exit.UNREACHABLE or tries >= TRIES_MAX:
                raise
        if ended:
            return
        if tries >= TRIES_MAX:
            raise CliError("the events of the task end before it does", Exit.UNREACHABLE)
        tries += 1
        time.sleep(min(RETRY_S_MAX, RETRY_S * tries))


def _events(response: HTTPResponse) -> Iterator[Event]:
    fields: dict[str, list[str]] = {}
    while line := response.readline(LINE_BYTES_MAX):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        elif fields:
            if "id" in fields:
                yield Event(fields["id"][-1], fields.get("event", [""])[-1], "\n".join(fields.get("data", ())))
            fields = {}

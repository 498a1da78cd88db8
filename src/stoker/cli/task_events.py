"""`stoker task follow`: what happens to a task and what its worker answers, as it comes."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from stoker.cli import output
from stoker.cli.errors import CliError, Exit
from stoker.cli.server_events import Event, followed
from stoker.cli.session import Session, command


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
    path = f"/endpoints/{quote(endpoint, safe='')}/tasks/{quote(task, safe='')}/events"
    last: dict[str, Any] | None = None
    for event in followed(session.client, path, after=after, last=_ends):
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


def _ends(event: Event) -> bool:
    return event.name == "stoker.task" and json.loads(event.data)["ended_at"] is not None

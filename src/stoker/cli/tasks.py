"""`stoker task`: work that is kept until a worker has answered it."""

from __future__ import annotations

import json
import mimetypes
import sys
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from stoker.cli import output
from stoker.cli.durations import age
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

WAIT_S = 10.0
BATCH = 500
DEFAULT_TIMEOUT_S = 3_600.0
Endpoint = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its name, slug, number or id.")]
Which = Annotated[str, typer.Argument(metavar="TASK", help="The task's id.")]
Timeout = Annotated[float, typer.Option(help="How long to wait, in seconds.")]


@command
def submit(
    session: Session,
    endpoint: Endpoint,
    input: Annotated[str | None, typer.Option("--input", help="The input as JSON; @FILE reads it, - is stdin.")] = None,
    batch: Annotated[
        Path | None, typer.Option("--batch", help="Submit a task for each line of this file, each a document.")
    ] = None,
    id: Annotated[str | None, typer.Option("--id", help="The task's own id.")] = None,
    path: Annotated[str | None, typer.Option(help="Where its worker gets it; default: the endpoint's.")] = None,
    priority: Annotated[int, typer.Option(help="Higher goes first.")] = 0,
    file: Annotated[Path | None, typer.Option("--file", help="The input as it is, of any content type.")] = None,
    content_type: Annotated[
        str | None, typer.Option("--content-type", help="That of --file; default: by its name.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="The request's method; default: POST.")] = None,
    port: Annotated[int | None, typer.Option(help="A port that the endpoint declares; default: the main one.")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", help="`Name: value`; may be repeated.")] = None,
    ttl: Annotated[float | None, typer.Option(help="Seconds after which it expires unless it has started.")] = None,
    execution_timeout: Annotated[
        float | None, typer.Option("--execution-timeout", help="Longest time of an attempt, in seconds.")
    ] = None,
    webhook: Annotated[str | None, typer.Option("--webhook", help="URL to tell the end to.")] = None,
    secret: Annotated[str | None, typer.Option("--secret", help="Name of the secret that signs the webhook.")] = None,
    key_file: Annotated[
        str | None,
        typer.Option("--webhook-key-file", help="File with the key itself that signs the webhook; - is stdin."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, and print the result.")] = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
) -> None:
    """Submit a task, or many with --batch. Without --input or --file the input is read from stdin, as JSON."""
    if key_file == "-" and file is None and input in (None, "-"):
        raise CliError("--webhook-key-file and the input cannot both be read from stdin", Exit.USAGE)
    if batch is not None:
        _submit_batch(session, endpoint, batch, wait=wait, timeout_s=timeout)
        return
    common: dict[str, Any] = {"id": id, "path": path, "method": method, "port": port, "ttl_s": ttl}
    common |= {"execution_timeout_s": execution_timeout}
    said: dict[str, Any] = {"priority": priority} | {name: value for name, value in common.items() if value is not None}
    key = None if key_file is None else _key(key_file)
    if file is None:
        said |= {"headers": dict(_header(line) for line in header)} if header else {}
        told = {"url": webhook, "secret": secret, "key": key}
        told = {name: value for name, value in told.items() if value is not None}
        said |= {"webhook": told} if told else {}
        made = session.client.post(_tasks(endpoint), {"input": _input(input)} | said)
    else:
        said |= {"header": header, "webhook_url": webhook, "webhook_secret": secret}
        kind = content_type or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        headers = {} if key is None else {"X-Stoker-Webhook-Key": key}
        made = session.client.send(f"{_tasks(endpoint)}:raw", _content(file), kind, query=said, headers=headers)
    if wait:
        with output.progress(f"task {made['id']}", quiet=session.as_json) as progress:
            _print_end(session, endpoint, _followed(session, endpoint, made, progress, timeout_s=timeout))
    elif session.as_json:
        output.document(made)
    else:
        known = "" if made["created"] else ", as submitted before"
        output.line(f"task {made['id']} is {made['state']}{known}")


def _submit_batch(session: Session, endpoint: str, file: Path, *, wait: bool, timeout_s: float) -> None:
    documents = [_line(file, number, line) for number, line in enumerate(_text(file).splitlines(), 1) if line.strip()]
    made: list[Any] = []
    deadline = time.monotonic() + timeout_s
    with output.progress(f"submitting {len(documents)} tasks", quiet=session.as_json) as progress:
        for start in range(0, len(documents), BATCH):
            some = {"tasks": documents[start : start + BATCH]}
            made += session.client.post(f"{_tasks(endpoint)}:batch", some)["items"]
            progress.now(f"submitted {_bar(len(made), len(documents))}")
        for place, task in enumerate(made if wait else ()):
            left_s = max(0.0, deadline - time.monotonic())
            made[place] = _followed(session, endpoint, task, progress, timeout_s=left_s, quiet=True)
            progress.now(f"ended {_bar(place + 1, len(made))}")
    states: dict[str, int] = {}
    for task in made:
        states[task["state"]] = states.get(task["state"], 0) + 1
    if session.as_json:
        output.document(made)
    else:
        output.line(f"{output.plural(len(made), 'task')}: {output.counts(states)}")
    if wait and set(states) - {"succeeded"}:
        raise CliError("not all of them have succeeded; `stoker task ls` says which", Exit.FAILED)


def _bar(done: int, of: int) -> str:
    filled = 20 * done // max(1, of)
    return f"[{'#' * filled}{'.' * (20 - filled)}] {done} of {of}"


@command
def ls(
    session: Session,
    endpoint: Endpoint,
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
) -> None:
    """List an endpoint's tasks, oldest first."""
    items = []
    for item in session.client.items(_tasks(endpoint), state=state, limit=min(limit, 500)):
        items.append(item)
        if len(items) >= limit:
            break
    if session.as_json:
        output.document(items)
        return
    rows = [
        (
            i["id"],
            i["state"],
            f"{i['attempts']}/{i['attempts_max']}",
            i["status"],
            i["reason"][:60],
            age(i["created_at"]),
        )
        for i in items
    ]
    output.table(("TASK", "STATE", "ATTEMPTS", "STATUS", "REASON", "AGE"), rows)


@command
def show(session: Session, endpoint: Endpoint, task: Which) -> None:
    """Show a task and its attempts."""
    found = session.client.get(_path(endpoint, task))
    if session.as_json:
        output.document(found)
        return
    names = ("id", "state", "priority", "status", "reason", "worker", "input_bytes", "result_bytes", "created_at",
             "started_at", "ended_at", "next_attempt_at", "expires_at")  # fmt: skip
    output.facts([(name, found[name]) for name in names])
    for tried in found["tried"]:
        output.line(
            f"attempt {tried['number']}: {tried['outcome']} {output.either(tried['status'], '')} {tried['reason']}"
        )


@command
def wait(session: Session, endpoint: Endpoint, task: Which, timeout: Timeout = DEFAULT_TIMEOUT_S) -> None:
    """Wait for the end of a task, and print its result."""
    found = session.client.get(_path(endpoint, task))
    with output.progress(f"task {task}", quiet=session.as_json) as progress:
        ended = _followed(session, endpoint, found, progress, timeout_s=timeout)
    _print_end(session, endpoint, ended)


@command
def cancel(session: Session, endpoint: Endpoint, task: Which) -> None:
    """End a task: a queued one at once, a running one as soon as its worker was told."""
    found = session.client.post(f"{_path(endpoint, task)}:cancel")
    if session.as_json:
        output.document(found)
    else:
        output.line(f"task {found['id']} is {'being cancelled' if found['cancelling'] else found['state']}")


@command
def retry(session: Session, endpoint: Endpoint, task: Which) -> None:
    """Submit a new task that asks for the same as one that has ended."""
    made = session.client.post(f"{_path(endpoint, task)}:retry")
    if session.as_json:
        output.document(made)
    else:
        output.line(f"task {made['id']} is {made['state']}")


@command
def purge(
    session: Session,
    endpoint: Endpoint,
    yes: Annotated[bool, typer.Option("--yes", help="Cancel them all.")] = False,
) -> None:
    """Cancel everything that is queued at an endpoint."""
    if not yes:
        waiting = session.client.get(f"{_endpoint(endpoint)}/queue")["queued"]
        raise CliError(f"{output.plural(waiting, 'task')} wait; --yes cancels them all", Exit.USAGE)
    purged = session.client.post(f"{_endpoint(endpoint)}/queue:purge")
    if session.as_json:
        output.document(purged)
    else:
        output.line(f"{output.plural(purged['purged'], 'task')} cancelled")


@command
def pause(session: Session, endpoint: Endpoint) -> None:
    """Let no task begin until `stoker task resume`."""
    _queue(session, endpoint, "pause")


@command
def resume(session: Session, endpoint: Endpoint) -> None:
    """Let tasks begin again."""
    _queue(session, endpoint, "resume")


def _queue(session: Session, endpoint: str, verb: str) -> None:
    queue = session.client.post(f"{_endpoint(endpoint)}/queue:{verb}")
    if session.as_json:
        output.document(queue)
    else:
        state = "paused" if queue["paused"] else "open"
        output.line(f"the queue is {state}: {queue['queued']} queued, {queue['running']} running")


@command
def webhooks(session: Session, endpoint: Endpoint) -> None:
    """List the webhooks that tell of an endpoint's tasks, with their tries."""
    items = list(session.client.items(f"{_endpoint(endpoint)}/webhooks"))
    if session.as_json:
        output.document(items)
        return
    rows = [(i["id"], i["task"], i["event"], i["state"], i["tries"], i["status"], i["error"][:60]) for i in items]
    output.table(("WEBHOOK", "TASK", "EVENT", "STATE", "TRIES", "STATUS", "ERROR"), rows)


@command
def redeliver(
    session: Session, endpoint: Endpoint, webhook: Annotated[str, typer.Argument(metavar="WEBHOOK", help="Its id.")]
) -> None:
    """Send a webhook once more, with the same id and content."""
    again = session.client.post(f"{_endpoint(endpoint)}/webhooks/{quote(webhook, safe='')}:redeliver")
    if session.as_json:
        output.document(again)
    else:
        output.line(f"webhook {again['id']} is {again['state']}")


def _followed(
    session: Session, endpoint: str, task: Any, progress: output.Progress, *, timeout_s: float, quiet: bool = False
) -> Any:
    """The task once it has ended. Raises `CliError` with exit code 5 after `timeout_s`."""
    deadline, said = time.monotonic() + timeout_s, ""
    while task["ended_at"] is None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise CliError(f"task {task['id']} is {task['state']} after {timeout_s:g} s; it goes on", Exit.TIMED_OUT)
        task = session.client.get(
            f"{_path(endpoint, task['id'])}/wait", timeout=min(WAIT_S if not said else 1.0, left_s)
        )
        text = f"{task['state']}, attempt {task['attempts'] + 1} of {task['attempts_max']}"
        if task["ended_at"] is None and not quiet:
            if text != said:
                progress.say(text)
            progress.now(text)
        said = text
    return task


def _print_end(session: Session, endpoint: str, task: Any) -> None:
    if session.as_json:
        output.document(task)
    elif task["result_bytes"]:
        with session.client.open("GET", f"/api/v1{_path(endpoint, task['id'])}/result") as response:
            while piece := response.read(65_536):
                sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    if task["state"] != "succeeded":
        raise CliError(f"task {task['id']} is {task['state']}: {task['reason']}", Exit.FAILED)


def _input(given: str | None) -> Any:
    if given is None or given == "-":
        text, source = sys.stdin.read(), "stdin"
    elif given.startswith("@"):
        text, source = _text(Path(given[1:])), given[1:]
    else:
        text, source = given, "--input"
    try:
        return json.loads(text) if text.strip() else None
    except ValueError as exc:
        raise CliError(f"{source} is not JSON: {exc}", Exit.USAGE) from exc


def _key(file: str) -> str:
    """Never an argument itself, which everybody on the machine could read."""
    key = (sys.stdin.read() if file == "-" else _text(Path(file))).strip()
    if not key or not key.isascii() or not key.isprintable():
        raise CliError("the key of a webhook is one line of printable ASCII", Exit.USAGE)
    return key


def _line(file: Path, number: int, line: str) -> Any:
    try:
        document = json.loads(line)
    except ValueError as exc:
        raise CliError(f"{file}, line {number}: not JSON: {exc}", Exit.USAGE) from exc
    if not isinstance(document, dict):
        raise CliError(f"{file}, line {number}: a task is an object, with its input in `input`", Exit.USAGE)
    return document


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise CliError(f"{line[:64]!r} is no header: say `Name: value`", Exit.USAGE)
    return name.strip(), value.strip()


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise CliError(f"{file} cannot be read: {exc}", Exit.USAGE) from exc


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise CliError(f"{file} cannot be read: {exc}", Exit.USAGE) from exc


def _endpoint(reference: str) -> str:
    return f"/endpoints/{quote(reference, safe='')}"


def _tasks(reference: str) -> str:
    return f"{_endpoint(reference)}/tasks"


def _path(endpoint: str, task: str) -> str:
    return f"{_tasks(endpoint)}/{quote(task, safe='')}"

"""`stoker explain`: why an endpoint has as many workers as it has."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from stoker.cli import output
from stoker.cli.durations import age, clock, short
from stoker.cli.errors import CliError, Exit
from stoker.cli.server_events import followed
from stoker.cli.session import Session, command

# Begins the names of those numbers that `auto` decides by.
AUTO = "auto."


@command
def explain(
    session: Session,
    endpoint: Annotated[
        str | None, typer.Argument(help="Endpoint: its name, slug, number or id. With --follow: default all of them.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="At that time, as in 2026-01-31T12:00:00Z, or so long ago, as in 10m.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="The last decision, then each as it is made.")] = False,
) -> None:
    """Explain an endpoint's number of workers: the decision, what each trigger asked for, what limited it."""
    if follow and at is not None:
        raise CliError("--follow is of what comes, --at of what was: say one of them", Exit.USAGE)
    if endpoint is None and not follow:
        raise CliError("say which ENDPOINT; all of them are told of with --follow", Exit.USAGE)
    item = None if endpoint is None else session.client.endpoint(endpoint)
    if item is None or follow:
        _follow(session, item)
        return
    query = {} if at is None else {"at": at}
    found = session.client.get(f"/endpoints/{item['id']}/explanation", **query)
    if session.as_json:
        output.document(found)
        return
    decision, present = found["decision"], found["present"]
    if decision is None and present is None:
        output.note(f"nothing was decided for {item['name']} up to then")
        return
    if decision is not None:
        output.line(f"{clock(decision['at'])} ({age(decision['at'])} ago): {_sentence(decision)}")
    shown = decision if present is None else present
    if present is not None:
        output.line(f"now: {_sentence(present)}")
    _show(shown)
    for worker in found["workers"]:
        numbers = [f"{name} {_number(value['value'], value)}" for name, value in worker["numbers"].items()]
        output.line(f"worker {worker['number']}: {', '.join(numbers) or 'nothing was measured so far'}")


def _follow(session: Session, item: Any) -> None:
    """Until the endpoint is deleted; without one those of all, for ever."""
    path = "/feed" if item is None else f"/endpoints/{item['id']}/feed"
    query = {"of": "decisions", "tail": 1}
    try:
        for event in followed(session.client, path, query=query, last=lambda _: False):
            decision = json.loads(event.data)
            if session.as_json:
                output.line(json.dumps(decision))
            else:
                whose = f"{decision['endpoint_name']} " if item is None else ""
                output.line(f"{clock(decision['at'])}: {whose}{_sentence(decision)}")
            sys.stdout.flush()
    except CliError as exc:
        if exc.code is not Exit.NOT_FOUND or item is None:
            raise
        output.note(f"{item['name']} is deleted")


def _sentence(decision: Any) -> str:
    count = output.plural(decision["workers"], "worker")
    change = "stays at" if decision["workers"] == decision["current"] else f"from {decision['current']} to"
    advice = "advises: " if decision["advisory"] else ""
    return f"{advice}{change} {count}: {decision['reason']}"


def _show(decision: Any) -> None:
    if decision["triggers"]:
        output.line()
        columns = ("TRIGGER", "ASKS FOR", "VALUE", "TARGET", "AGE", "BECAUSE")
        output.table(columns, [_row(each) for each in decision["triggers"]])
    if decision["limits"]:
        output.line()
        for number, limit in enumerate(decision["limits"], start=1):
            output.line(f"limit {number}: {limit}")
    if decision["inputs"]:
        output.line()
        for line in _numbers(decision["inputs"], decision["ages"]):
            output.line(line)


def _numbers(inputs: dict[str, float | None], ages: dict[str, float]) -> Iterator[str]:
    """What was known, a line for each age and one for what `auto` has made of it; then what was not known."""
    lines: dict[str, list[str]] = {}
    for name, value in inputs.items():
        if value is None:
            continue
        own = name.startswith(AUTO)
        which = f"auto's numbers{_old(ages.get(name))}" if own else f"numbers{_old(ages.get(name))}"
        lines.setdefault(which, []).append(f"{name.removeprefix(AUTO)} {value:g}")
    yield from (f"{which}: {', '.join(lines[which])}" for which in sorted(lines, key=lambda which: which[0] == "a"))
    unknown = [name for name, value in inputs.items() if value is None]
    if unknown:
        yield f"not known so far: {', '.join(unknown)}"


def _old(age_s: float | None) -> str:
    return "" if age_s is None else f", {short(age_s)} old"


def _row(each: Any) -> tuple[object, ...]:
    return (
        each["trigger"],
        "unknown" if each["workers"] is None else each["workers"],
        None if each["value"] is None else f"{each['value']:.4g}",
        None if each["target"] is None else f"{each['target']:.4g}",
        None if each["age_s"] is None else short(each["age_s"]),
        each["text"],
    )


def _number(value: float, told: Any) -> str:
    return f"{value:.3g} ({short(told['age_s'])} old{', stale' if told['stale'] else ''})"

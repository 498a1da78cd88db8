"""`stoker usage`: what was used and what it cost, as a table with bars, JSON or CSV."""

from __future__ import annotations

import csv
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from stoker.cli import output
from stoker.cli.durations import moment, short
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

BAR_CHARS = 24
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_COLUMNS = (
    "group",
    "name",
    "requests",
    "errors",
    "metered",
    "prompt_tokens",
    "completion_tokens",
    "started_s",
    "ready_s",
    "priced_s",
    "cost",
)


class By(StrEnum):
    """What usage is summed by."""

    ENDPOINT = "endpoint"
    KEY = "key"
    PROJECT = "project"
    HOUR = "hour"


@command
def usage(
    session: Session,
    since: Annotated[str, typer.Option(help="From then on: a time, or how long ago, as in 24h or 7d.")] = "24h",
    until: Annotated[str | None, typer.Option(help="Up to then; default: now.")] = None,
    by: Annotated[By, typer.Option(help="What to sum by.")] = By.ENDPOINT,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, for a spreadsheet.")] = False,
) -> None:
    """Show requests, tokens, time of workers and cost, in whole hours.

    Bars compare the requests of the rows. Tokens are known of answers that tell them; a cost needs `prices` in the
    settings.
    """
    if as_csv and session.as_json:
        raise CliError("--csv or --json, not both", Exit.USAGE)
    found = session.client.get("/usage", since=since, until=until, by=by.value)
    if session.as_json:
        output.document(found)
    elif as_csv:
        _write_csv(found)
    elif not found["items"]:
        output.note("nothing was used in that time")
    else:
        _write_table(found, by)


def _write_csv(found: Any) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for item in found["items"]:
        flat = {**item, **(item["workers"] or {})}
        writer.writerow(["" if (value := flat.get(name)) is None else _harmless(value) for name in _COLUMNS])


def _harmless(value: object) -> object:
    """A name that a spreadsheet would take for a formula gets a mark in front of it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _write_table(found: Any, by: By) -> None:
    most = max((item["requests"] for item in found["items"]), default=0)
    columns = (by.value.upper(), "REQUESTS", "", "ERRORS", "PROMPT", "COMPLETION", "WORKERS", "READY", "COST")
    rows = [_row(item, by, most) for item in found["items"]]
    if len(found["items"]) > 1 or found["omitted"]:
        rows.append(_row({**found["total"], "name": "total"}, None, 0))
    output.table(columns, rows)
    if found["omitted"]:
        output.note(f"{found['omitted']} more are in the total only")


def _row(item: Any, by: By | None, most: int) -> tuple[object, ...]:
    workers = item["workers"] or {}
    cost = workers.get("cost")
    name = item["name"]
    return (
        moment(name).astimezone().strftime("%m-%d %H:%M") if by is By.HOUR else name,
        item["requests"],
        bar(item["requests"], most),
        item["errors"],
        item["prompt_tokens"],
        item["completion_tokens"],
        None if not workers else short(workers["started_s"]),
        None if not workers else short(workers["ready_s"]),
        None if cost is None else f"{cost:.2f}",
    )


def bar(value: int, most: int) -> str:
    """A bar as long as `value` is of `most`, in eighths of a character; something is never shown as nothing.

    >>> bar(1, 3)
    '████████'
    """
    if value <= 0 or most <= 0:
        return ""
    eighths = max(1, round(value / most * BAR_CHARS * 8))
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()

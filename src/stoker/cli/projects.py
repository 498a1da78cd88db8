"""`stoker projects` and `stoker audit`: whose everything is, and who changed what."""

from __future__ import annotations

import itertools
import json
from typing import Annotated
from urllib.parse import quote

import typer

from stoker.cli import output
from stoker.cli.durations import age, clock, moment
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

Which = Annotated[str, typer.Argument(metavar="PROJECT", help="Its name, number or id.")]


@command
def create(session: Session, name: Annotated[str, typer.Argument(help="Its name.")]) -> None:
    """Make a project. Needs a key of the installation, as that of this machine is."""
    made = session.client.post("/projects", {"name": name})
    if session.as_json:
        output.document(made)
    else:
        output.line(f"project {made['name']} has number {made['number']}")
        output.note(f"act for it with --project {made['name']}, or give it a key of its own:")
        output.note(f"  stoker keys create NAME --scope admin --project {made['name']}")


@command
def ls(session: Session) -> None:
    """List the projects that the key may act for."""
    items = list(session.client.items("/projects"))
    if session.as_json:
        output.document(items)
        return
    output.table(
        ("PROJECT", "NAME", "AGE"), [(item["number"], item["name"], age(item["created_at"])) for item in items]
    )


@command
def show(session: Session, which: Which) -> None:
    """Show one project."""
    found = session.client.get(f"/projects/{quote(which, safe='')}")
    if session.as_json:
        output.document(found)
    else:
        output.facts([(name, found[name]) for name in ("name", "number", "id", "created_at")])


@command
def rename(session: Session, which: Which, name: Annotated[str, typer.Argument(help="The new name.")]) -> None:
    """Give a project another name."""
    changed = session.client.patch(f"/projects/{quote(which, safe='')}", {"name": name})
    if session.as_json:
        output.document(changed)
    else:
        output.line(f"project {changed['number']} is called {changed['name']}")


@command
def rm(session: Session, which: Which) -> None:
    """Delete an empty project."""
    path = f"/projects/{quote(which, safe='')}"
    found = session.client.get(path)
    session.client.delete(path)
    if session.as_json:
        output.document(found)
    else:
        output.line(f"project {found['name']} is deleted")


@command
def audit(
    session: Session,
    action: Annotated[str | None, typer.Option(help="Only this action, or all that begin so, as in key.")] = None,
    target: Annotated[str | None, typer.Option(help="Only changes of what has this id or name.")] = None,
    limit: Annotated[int, typer.Option(help="How many, the newest first.")] = 50,
) -> None:
    """Show who changed what in the project."""
    if limit < 1:
        raise CliError("--limit is at least 1", Exit.USAGE)
    found = session.client.items("/audit", action=action, target=target, limit=min(limit, 500))
    items = list(itertools.islice(found, limit))
    if session.as_json:
        output.document(items)
        return
    rows = [
        (
            f"{moment(item['at']):%Y-%m-%d} {clock(item['at'])}",
            "stoker" if item["by"] is None else item["by"]["name"] or item["by"]["id"],
            item["action"],
            item["name"] or item["target"],
            item["outcome"],
            _difference(item["before"], item["after"]),
        )
        for item in items
    ]
    output.table(("AT", "BY", "ACTION", "TARGET", "OUTCOME", "CHANGED"), rows)


def _difference(before: object, after: object) -> str:
    """What changed, in short; `--json` has all of it."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return ""
    names = [name for name in after if before.get(name) != after[name]]
    return ", ".join(f"{name}: {_short(before.get(name))} -> {_short(after[name])}" for name in names)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."

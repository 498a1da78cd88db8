"""`stoker volumes`: data that outlives workers and endpoints."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from stoker.cli import output
from stoker.cli.durations import age
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

Which = Annotated[str, typer.Argument(metavar="NAME", help="Its name, number or id.")]


@command
def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What endpoints call it.")],
    size: Annotated[float, typer.Option(help="What it may hold, in GiB.")],
    provider: Annotated[str, typer.Option(help="Whose workers use it.")] = "process",
) -> None:
    """Make a volume. Endpoints refer to it under `volumes` in their document."""
    made = session.client.post("/volumes", {"name": name, "size_gib": size, "provider": provider})
    _done(session, made, f"is {made['state']}, up to {made['size_gib']:g} GiB")


@command
def ls(session: Session) -> None:
    """List the volumes and what they hold."""
    items = list(session.client.items("/volumes"))
    if session.as_json:
        output.document(items)
        return
    rows = [(i["number"], i["name"], i["state"], _held(i), i["provider"], age(i["created_at"])) for i in items]
    output.table(("VOLUME", "NAME", "STATE", "HOLDS", "PROVIDER", "AGE"), rows)


@command
def show(session: Session, which: Which) -> None:
    """Show a volume."""
    item = session.client.get(_path(which))
    if session.as_json:
        output.document(item)
        return
    fields = ("name", "number", "id", "state", "provider", "region", "created_at")
    output.facts([*((name, item[name]) for name in fields), ("holds", _held(item)), ("measured", item["measured_at"])])


@command
def resize(
    session: Session,
    which: Which,
    size: Annotated[float, typer.Argument(metavar="GIB", help="What it may hold, in GiB.")],
) -> None:
    """Let a volume hold more, or less. What is in it stays."""
    changed = session.client.patch(_path(which), {"size_gib": size})
    _done(session, changed, f"may hold {changed['size_gib']:g} GiB")


@command
def rm(
    session: Session,
    which: Which,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it with all that is in it.")] = False,
) -> None:
    """Delete a volume that no endpoint uses, with all that is in it."""
    found = session.client.get(_path(which))
    if not yes:
        raise CliError(f"volume {found['name']} holds {_held(found)}; --yes deletes it all", Exit.USAGE)
    session.client.delete(_path(which))
    _done(session, found, "is deleted")


def _path(reference: str) -> str:
    return f"/volumes/{quote(reference, safe='')}"


def _held(item: Any) -> str:
    if item["used_bytes"] is None:
        return f"- of {item['size_gib']:g} GiB"
    over = ", too much" if item["over_quota"] else ""
    return f"{item['used_bytes'] / 2**30:.2f} of {item['size_gib']:g} GiB{over}"


def _done(session: Session, volume: Any, text: str) -> None:
    if session.as_json:
        output.document(volume)
    else:
        output.line(f"volume {volume['name']} {text}")

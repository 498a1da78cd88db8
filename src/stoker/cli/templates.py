"""`stoker templates`: parts of documents that `stoker deploy --template` and `stoker apply` lay theirs over."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from stoker.cli import manifests, output
from stoker.cli.durations import age
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

Which = Annotated[str, typer.Argument(metavar="NAME", help="Its name, NAME@VERSION, number or id.")]


@command
def add(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What documents call it.")],
    file: Annotated[str, typer.Option("-f", "--file", help="Its YAML file; - is standard input.")],
) -> None:
    """Add a template, or a new version of one: a part of an endpoint's document, without a name."""
    part = manifests.part(file)
    try:
        made = session.client.post("/templates", {"name": name, "spec": part.spec})
    except CliError as exc:
        places = tuple(
            f"{part.place(pointer.removeprefix('/spec'))}: {detail}"
            for pointer, detail in exc.problems
            if pointer.startswith("/spec")
        )
        if not places:
            raise
        raise CliError(f"{file} is no template", Exit.USAGE, details=places) from exc
    if session.as_json:
        output.document(made)
    else:
        output.line(f"template {made['reference']} ({made['digest'][:12]})")


@command
def ls(session: Session) -> None:
    """List the templates with all their versions."""
    items = list(session.client.items("/templates"))
    if session.as_json:
        output.document(items)
        return
    rows = [(i["number"], i["name"], i["version"], i["digest"][:12], age(i["created_at"])) for i in items]
    output.table(("TEMPLATE", "NAME", "VERSION", "DIGEST", "AGE"), rows)


@command
def show(session: Session, which: Which) -> None:
    """Show what a template says, as YAML; by name its newest version."""
    found = session.client.get(f"/templates/{quote(which, safe='')}")
    if session.as_json:
        output.document(found)
    else:
        output.line(f"# {found['reference']}, sha256 {found['digest']}")
        output.line(manifests.text(found["spec"]).rstrip())


@command
def rm(session: Session, which: Which) -> None:
    """Delete all versions of a template that no endpoint names."""
    path = f"/templates/{quote(which, safe='')}"
    found = session.client.get(path)
    session.client.delete(path)
    if session.as_json:
        output.document(found)
    else:
        output.line(f"template {found['name']} is deleted")

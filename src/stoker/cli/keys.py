"""`stoker keys`: who may do what."""

from __future__ import annotations

from typing import Annotated

import typer

from stoker.cli import output
from stoker.cli.durations import age, clock, moment, seconds
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

SCOPES = ("admin", "deploy", "invoke", "read")


@command
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="admin, deploy, invoke or read. Repeatable.")] = None,
    endpoint: Annotated[list[str] | None, typer.Option(help="Only for this endpoint. Repeatable.")] = None,
    expires: Annotated[str | None, typer.Option(help="How long it is good for, as in 30d; default: no end.")] = None,
) -> None:
    """Make a key. Its secret is printed once, on stdout; by default it may only invoke."""
    scopes = scope or ["invoke"]
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise CliError(f"no scope {unknown[0][:32]!r}; there are {', '.join(SCOPES)}", Exit.USAGE)
    client = session.client
    body = {
        "name": name,
        "scopes": scopes,
        "endpoints": [client.endpoint(text)["id"] for text in endpoint] if endpoint else None,
        "expires_in_s": None if expires is None else seconds(expires),
    }
    made = client.post("/keys", body)
    if session.as_json:
        output.document(made)
    else:
        output.line(made["secret"])
        output.note(f"key {name} may {', '.join(scopes)}; this is the only time that its secret is shown")


@command
def ls(session: Session) -> None:
    """List the keys, without their secrets."""
    items = list(session.client.items("/keys"))
    if session.as_json:
        output.document(items)
        return
    rows = [
        (
            item["number"],
            item["name"],
            item["hint"],
            ",".join(item["scopes"]),
            "all" if item["endpoints"] is None else len(item["endpoints"]),
            f"{moment(item['expires_at']):%Y-%m-%d} {clock(item['expires_at'])}" if item["expires_at"] else "never",
            age(item["created_at"]),
        )
        for item in items
    ]
    output.table(("KEY", "NAME", "BEGINS", "MAY", "ENDPOINTS", "EXPIRES", "AGE"), rows)


@command
def rm(
    session: Session,
    which: Annotated[str, typer.Argument(metavar="KEY", help="Its number, name, or id, as `stoker keys ls` has it.")],
) -> None:
    """Revoke a key at once."""
    client = session.client
    items = list(client.items("/keys"))
    found = [item for item in items if which in (item["id"], str(item["number"]))]
    found = found or [item for item in items if item["name"] == which]
    if not found:
        raise CliError(f"no key {which[:64]!r}; `stoker keys ls` lists them", Exit.NOT_FOUND)
    if len(found) > 1:
        numbers = ", ".join(str(item["number"]) for item in found)
        raise CliError(f"several keys are named {which!r}; say which by number: {numbers}", Exit.USAGE)
    client.delete(f"/keys/{found[0]['id']}")
    if session.as_json:
        output.document(found[0])
    else:
        output.line(f"key {found[0]['name']} ({found[0]['hint']}) is revoked")

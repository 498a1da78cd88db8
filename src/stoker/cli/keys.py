"""`stoker keys`: who may do what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from stoker.cli import output
from stoker.cli.durations import age, clock, moment, seconds
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

SCOPES = ("admin", "deploy", "invoke", "read")
Which = Annotated[str, typer.Argument(metavar="KEY", help="Its number, name, or id, as `stoker keys ls` has it.")]
Rate = Annotated[float | None, typer.Option(help="Requests that may begin each second.")]
Burst = Annotated[int | None, typer.Option(help="How many of them at once, after a pause.")]
Concurrency = Annotated[int | None, typer.Option(help="Requests under way at a time.")]


@command
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="admin, deploy, invoke or read. Repeatable.")] = None,
    endpoint: Annotated[list[str] | None, typer.Option(help="Only for this endpoint. Repeatable.")] = None,
    expires: Annotated[str | None, typer.Option(help="How long it is good for, as in 30d; default: no end.")] = None,
    rate: Rate = None,
    burst: Burst = None,
    concurrency: Concurrency = None,
    revealable: Annotated[bool, typer.Option("--revealable", help="Keep it, encrypted, to be shown again.")] = False,
    exoscale: Annotated[
        bool, typer.Option("--exoscale", help="A pair of id and secret, for clients that sign their requests.")
    ] = False,
    installation: Annotated[bool, typer.Option("--installation", help="It may act for every project.")] = False,
) -> None:
    """Make a key. Its secret is printed once, on stdout; by default it may only invoke.

    With --exoscale the first line is the id and the second the secret.
    """
    scopes = scope or ["invoke"]
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise CliError(f"no scope {unknown[0][:32]!r}; there are {', '.join(SCOPES)}", Exit.USAGE)
    client = session.client
    more = {
        "rate_per_s": rate,
        "burst": burst,
        "concurrency": concurrency,
        "revealable": revealable or None,
        "installation": installation or None,
        "kind": "signing" if exoscale else None,
    }
    body = {
        **{field: value for field, value in more.items() if value is not None},
        "name": name,
        "scopes": scopes,
        "endpoints": [client.endpoint(text)["id"] for text in endpoint] if endpoint else None,
        "expires_in_s": None if expires is None else seconds(expires),
    }
    made = client.post("/keys", body)
    if session.as_json:
        output.document(made)
    elif exoscale:
        output.line(made["key"]["access_id"])
        output.line(made["secret"])
        output.note(f"key {name} may {', '.join(scopes)}")
    else:
        output.line(made["secret"])
        again = "`stoker keys show --reveal` shows it again" if revealable else "its secret is not shown again"
        output.note(f"key {name} may {', '.join(scopes)}; {again}")


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
            None if item["last_used_at"] is None else f"{age(item['last_used_at'])} ago",
        )
        for item in items
    ]
    output.table(("KEY", "NAME", "BEGINS", "MAY", "ENDPOINTS", "EXPIRES", "AGE", "USED"), rows)


@command
def show(
    session: Session,
    which: Which,
    reveal: Annotated[bool, typer.Option("--reveal", help="Print its secret alone. This is recorded.")] = False,
) -> None:
    """Show a key or, with --reveal, the secret of a revealable one."""
    found = _find(session, which)
    if reveal:
        found = session.client.get(f"/keys/{found['id']}/secret")
    if session.as_json:
        output.document(found)
    elif reveal:
        output.line(found["secret"])
    else:
        output.facts([(name, ", ".join(value) if isinstance(value, list) else value) for name, value in found.items()])


@command
def update(
    session: Session,
    which: Which,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    endpoint: Annotated[list[str] | None, typer.Option(help="Only for this endpoint. Repeatable.")] = None,
    expires: Annotated[str | None, typer.Option(help="How long it is good for from now, as in 30d, or never.")] = None,
    rate: Rate = None,
    burst: Burst = None,
    concurrency: Concurrency = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="Take all limits on its use away first.")] = False,
) -> None:
    """Change a key's name, endpoints, expiry or limits; what is not named stays."""
    client = session.client
    limits = {"rate_per_s": rate, "burst": burst, "concurrency": concurrency}
    body: dict[str, object] = dict.fromkeys(limits) if unlimited else {}
    body |= {field: value for field, value in limits.items() if value is not None}
    if name is not None:
        body["name"] = name
    if endpoint:
        body["endpoints"] = [client.endpoint(text)["id"] for text in endpoint]
    if expires is not None:
        body["expires_in_s"] = None if expires == "never" else seconds(expires)
    if not body:
        raise CliError("say what to change; see stoker keys update --help", Exit.USAGE)
    changed = client.patch(f"/keys/{_find(session, which)['id']}", body)
    if session.as_json:
        output.document(changed)
    else:
        output.line(f"key {changed['name']} ({changed['hint']}) is changed")


@command
def rm(session: Session, which: Which) -> None:
    """Revoke a key at once."""
    found = _find(session, which)
    session.client.delete(f"/keys/{found['id']}")
    if session.as_json:
        output.document(found)
    else:
        output.line(f"key {found['name']} ({found['hint']}) is revoked")


def _find(session: Session, which: str) -> Any:
    items = list(session.client.items("/keys"))
    found = [item for item in items if which in (item["id"], str(item["number"]))]
    found = found or [item for item in items if item["name"] == which]
    if not found:
        raise CliError(f"no key {which[:64]!r}; `stoker keys ls` lists them", Exit.NOT_FOUND)
    if len(found) > 1:
        numbers = ", ".join(str(item["number"]) for item in found)
        raise CliError(f"several keys are named {which!r}; say which by number: {numbers}", Exit.USAGE)
    return found[0]

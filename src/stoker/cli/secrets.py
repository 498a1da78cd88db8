"""`stoker secrets` and `stoker credentials`: values that endpoints refer to by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from stoker.cli import output, reading
from stoker.cli.durations import age
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]
Which = Annotated[str, typer.Argument(metavar="NAME", help="Its name, number or id.")]
File = Annotated[Path | None, typer.Option("--from-file", help="Where the value is; default: standard input.")]


@command
def set_(
    session: Session,
    name: Name,
    from_file: File = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
) -> None:
    """Make a secret, or give it another value. The value is read from standard input, never from an argument."""
    client, value = session.client, reading.value(from_file, "the value")
    path = f"/secrets/{quote(name, safe='')}"
    try:
        client.get(path)
    except CliError as exc:
        if exc.status != 404:
            raise
        made = client.post("/secrets", {"name": name, "value": value, "description": description or ""})
    else:
        more = {} if description is None else {"description": description}
        made = client.patch(path, {"value": value, **more})
    if session.as_json:
        output.document(made)
    else:
        output.line(f"secret {made['name']} is set")
        output.note(f"endpoints use it as env: {{VARIABLE: {{secret: {made['name']}}}}}, from their next start on")


@command
def ls(session: Session) -> None:
    """List the secrets, without their values."""
    items = list(session.client.items("/secrets"))
    if session.as_json:
        output.document(items)
        return
    rows = [(item["number"], item["name"], item["description"] or None, age(item["updated_at"])) for item in items]
    output.table(("SECRET", "NAME", "FOR", "SET"), rows)


@command
def show(
    session: Session,
    which: Which,
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the value alone. This is recorded.")] = False,
) -> None:
    """Show a secret: what it is for or, with --reveal and a key of scope admin, its value."""
    path = f"/secrets/{quote(which, safe='')}"
    found = session.client.get(f"{path}/value" if reveal else path)
    if session.as_json:
        output.document(found)
    elif reveal:
        output.line(found["value"])
    else:
        output.facts([(name, found[name]) for name in ("name", "number", "id", "description", "updated_at")])


@command
def rm(session: Session, which: Which) -> None:
    """Delete a secret that no endpoint refers to."""
    path = f"/secrets/{quote(which, safe='')}"
    found = session.client.get(path)
    session.client.delete(path)
    if session.as_json:
        output.document(found)
    else:
        output.line(f"secret {found['name']} is deleted")


@command
def rotate_master_key(session: Session) -> None:
    """Encrypt all secrets of the installation under a new master key. May be interrupted and run again."""
    state = session.client.post("/master-key:rotate")
    if session.as_json:
        output.document(state)
        return
    output.line(f"{output.plural(state['sealed'], 'secret')} under the master key {state['current']}")
    if state["left"]:
        raise CliError(f"{output.plural(state['left'], 'secret')} could not be read and stay as they are")
    if state["old"]:
        output.note("the keys after the first one in STOKER_MASTER_KEY are not needed any more")


@command
def create_credential(
    session: Session,
    name: Name,
    registry: Annotated[str, typer.Option(help="Its host, as in ghcr.io; * for whichever an image comes from.")],
    username: Annotated[str, typer.Option(help="Who logs in.")],
    from_file: File = None,
) -> None:
    """Keep a log-in at a container registry. The password is read from standard input."""
    body = {"name": name, "registry": registry, "username": username}
    made = session.client.post("/registry-credentials", body | {"password": reading.value(from_file, "the password")})
    if session.as_json:
        output.document(made)
    else:
        output.line(f"registry credential {made['name']} is for {made['username']} at {made['registry']}")


@command
def update_credential(
    session: Session,
    which: Which,
    registry: Annotated[str | None, typer.Option(help="Another host; needs a password.")] = None,
    username: Annotated[str | None, typer.Option(help="Another user.")] = None,
    password: Annotated[bool, typer.Option("--password", help="Another password, from standard input.")] = False,
    from_file: File = None,
) -> None:
    """Change a log-in at a container registry."""
    given = {"registry": registry, "username": username}
    body = {field: value for field, value in given.items() if value is not None}
    if password or from_file is not None:
        body["password"] = reading.value(from_file, "the password")
    if not body:
        raise CliError("say what to change: --registry, --username or --password", Exit.USAGE)
    changed = session.client.patch(f"/registry-credentials/{quote(which, safe='')}", body)
    if session.as_json:
        output.document(changed)
    else:
        output.line(f"registry credential {changed['name']} is for {changed['username']} at {changed['registry']}")


@command
def list_credentials(session: Session) -> None:
    """List the registry credentials, without their passwords."""
    items = list(session.client.items("/registry-credentials"))
    if session.as_json:
        output.document(items)
        return
    rows = [(i["number"], i["name"], i["registry"], i["username"], age(i["updated_at"])) for i in items]
    output.table(("CREDENTIAL", "NAME", "REGISTRY", "USER", "SET"), rows)


@command
def remove_credential(session: Session, which: Which) -> None:
    """Delete a registry credential that no endpoint refers to."""
    path = f"/registry-credentials/{quote(which, safe='')}"
    found = session.client.get(path)
    session.client.delete(path)
    if session.as_json:
        output.document(found)
    else:
        output.line(f"registry credential {found['name']} is deleted")

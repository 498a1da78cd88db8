"""`stoker engines`: what models run on; `stoker schema`: what endpoint documents look like."""

from __future__ import annotations

from typing import Annotated

import typer

from stoker.cli import output
from stoker.cli.session import Session, command


@command
def engines(
    session: Session,
    engine: Annotated[str | None, typer.Argument(help="Show the parameters of this one.")] = None,
    version: Annotated[str | None, typer.Option(help="In this version of it.")] = None,
) -> None:
    """List the engines, or the parameters that one takes."""
    client = session.client
    if engine is None:
        names = client.get("/engines")["items"]
        if session.as_json:
            output.document(names)
        else:
            for name in names:
                output.line(name)
        return
    items = client.get(f"/engines/{engine}/parameters", version=version)["items"]
    if session.as_json:
        output.document(items)
        return
    rows = [
        (", ".join(item["flags"]), ",".join(item["allowed"]) or item["type"], item["default"], item["description"])
        for item in items
    ]
    output.table(("PARAMETER", "TAKES", "DEFAULT", "WHAT IT DOES"), rows)


def schema(
    as_json: Annotated[bool, typer.Option("--json", help="The same: a schema is JSON.")] = False,
) -> None:
    """Print the JSON Schema of the endpoint document, for editors.

    With it in a file, the first line of an endpoint's YAML says where it is:
    # yaml-language-server: $schema=stoker.schema.json
    """
    # Of this version of Stoker: an editor is to help where none is running.
    from stoker.api.schema import document

    output.document(document())

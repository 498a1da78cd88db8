"""Writes docs/reference/ from the code: command line, settings, endpoint document, native API. Run by `make docs`."""

from __future__ import annotations

import inspect
import json
import runpy
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer.main
from fastapi import FastAPI

from stoker.api import face, schema
from stoker.api.actions import ROUTES
from stoker.api.wire.spec import SpecIn
from stoker.cli.main import application
from stoker.domain.addresses import UrlRules
from stoker.domain.authorisation import TABLE, Reach, Row
from stoker.domain.hardware import PortRange
from stoker.settings import Settings

FOLDER = Path(__file__).parent / "reference"
DIALECTS = Path(__file__).parent / "dialects"
CLIENTS = Path(__file__).parent.parent / "tests" / "clients"
TABLE_BEGIN = "<!-- Written by docs/generate.py from the list beside the tests; `make docs` writes it anew. -->"
TABLE_END = "<!-- Until here. -->"
NOTE = "<!-- Written by docs/generate.py; `make docs` writes it anew. -->"


def pages() -> dict[str, str]:
    """Every generated page by file name."""
    return {
        "cli.md": _cli(),
        "settings.md": _settings(),
        "endpoint.md": _endpoint(),
        "endpoint.schema.json": json.dumps(schema.document(), indent=2) + "\n",
        "api.md": _api(),
    }


def tables() -> dict[str, str]:
    """The page of each dialect by file name, with its table as the list beside its clients' tests has it."""
    return {f"{path.parent.name}.md": _with_table(path) for path in sorted(CLIENTS.glob("*/conformance.py"))}


def _with_table(path: Path) -> str:
    rows = runpy.run_path(str(path))["ROWS"]
    lines = ["| Operation | Call | Last passed with |", "| --- | --- | --- |"]
    lines += [f"| {row.operation} | `{row.call}` | {', '.join(row.clients)} |" for row in rows]
    text = (DIALECTS / f"{path.parent.name}.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(f"{TABLE_BEGIN}\n")
    _, _, after = rest.partition(TABLE_END)
    return "\n".join((f"{before}{TABLE_BEGIN}", *lines, f"{TABLE_END}{after}"))


# Command line


def _cli() -> str:
    root = typer.main.get_command(application())
    lines = ["# Command line", "", NOTE, ""]
    lines += ["Every command takes `--json` where it prints something, and `--help`.", ""]
    lines += [_plain(getattr(root, "epilog", None) or ""), ""]
    for path, command in _commands(root, ()):
        lines += [f"## stoker {' '.join(path)}", "", _plain(command.help or ""), ""]
        rows = [row for parameter in command.params if (row := _parameter(parameter)) is not None]
        if rows:
            lines += ["| | |", "| --- | --- |", *rows, ""]
    return "\n".join(lines)


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


def _parameter(parameter: Any) -> str | None:
    if parameter.param_type_name == "argument":
        name = str(parameter.name).upper()
    elif parameter.name == "help" or getattr(parameter, "hidden", False):
        return None
    else:
        name = ", ".join((*parameter.opts, *parameter.secondary_opts))
    return f"| `{name}` | {_cell(getattr(parameter, 'help', None) or '')} |"


# Settings


def _settings() -> str:
    lines = ["# Settings", "", NOTE, ""]
    lines += [
        "In `stoker.yaml` in the data folder; each key also as an environment variable, `STOKER_` and the key in",
        "capitals, which wins over the file. An argument of the command line wins over both.",
        "",
        _plain((inspect.getdoc(Settings) or "").partition("\n")[2]),
        "",
        "| Key | Default |",
        "| --- | --- |",
    ]
    for each in fields(Settings):
        if each.name != "data_dir":
            default = getattr(Settings(), each.name)
            lines.append(f"| `{each.name}` | {_default(default)} |")
    return "\n".join(lines) + "\n"


def _default(value: object) -> str:
    if isinstance(value, UrlRules):
        return "`on`" if value.allow_private else "`off`"
    if isinstance(value, PortRange):
        return f"`{value.first}-{value.last}`"
    if value is None or value == () or value == {}:
        return "none"
    return f"`{value}`"


# Endpoint document


def _endpoint() -> str:
    schema = SpecIn.model_json_schema()
    definitions: Mapping[str, Any] = schema["$defs"]
    lines = ["# The endpoint document", "", NOTE, ""]
    lines += ["What `stoker apply` reads and the API takes. [An annotated example](../../examples/endpoint.yaml);"]
    lines += ["[its JSON Schema](endpoint.schema.json), which `stoker schema` prints.", ""]
    lines += _object("The document", schema, definitions, [])
    return "\n".join(lines)


def _object(title: str, schema: Mapping[str, Any], definitions: Mapping[str, Any], done: list[str]) -> list[str]:
    lines = [f"## {title.removesuffix('In')}", ""]
    if title != "The document":
        lines += [_plain(schema.get("description", "")), ""]
    lines += ["| Field | Type | Default | |", "| --- | --- | --- | --- |"]
    below: list[str] = []
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        type_, references = _type(field, definitions)
        default = "required" if name in required else f"`{json.dumps(field.get('default'))}`"
        if references:
            default = "required" if name in required else ""
        lines.append(f"| `{name}` | {type_} | {default} | {_cell(field.get('description', ''))} |")
        below += [reference for reference in references if reference not in (*done, *below)]
    lines.append("")
    for reference in below:
        done.append(reference)
        lines += _object(reference, definitions[reference], definitions, done)
    return lines


def _type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> tuple[str, list[str]]:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        if "enum" in definitions[name]:
            return " or ".join(f"`{value}`" for value in definitions[name]["enum"]), []
        shown = name.removesuffix("In")
        return f"[{shown}](#{shown.lower()})", [name]
    if "anyOf" in field:
        parts = [_type(part, definitions) for part in field["anyOf"]]
        return " or ".join(text for text, _ in parts), [name for _, names in parts for name in names]
    if field.get("type") == "array":
        text, names = _type(field["items"], definitions)
        return f"list of {text}", names
    if field.get("type") == "object":
        text, names = _type(field.get("additionalProperties", {"type": "string"}), definitions)
        return f"map of {text}", names
    return {"string": "text", "integer": "whole number"}.get(field.get("type", ""), str(field.get("type"))), []


# Native API


def _api() -> str:
    description = api().openapi()
    lines = ["# Native API", "", NOTE, ""]
    lines += [
        f"Below `{face.PREFIX}`. `/api/openapi.json` has all of it, `/api/docs` shows it. Times are ISO 8601 in UTC;",
        "lists are `items` and a `next` cursor; errors are problem documents (RFC 9457), with JSON pointers to the",
        "places in the body. `{ref}` is an id, a slug, a number or an exact name. A POST with an `Idempotency-Key`",
        "runs once and is answered again for 24 hours.",
        "",
        "| | | Needs | |",
        "| --- | --- | --- | --- |",
    ]
    scopes = _scopes()
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            text = _cell(operation.get("description", ""))
            lines.append(f"| {method.upper()} | `{path}` | {scopes[path, method.upper()]} | {text} |")
    return "\n".join(lines) + "\n"


def api() -> FastAPI:
    """The native API's application, without anything behind it."""
    return face.make(None)  # type: ignore[arg-type]


def _scopes() -> Mapping[tuple[str, str], str]:
    """By path and method."""
    return {(path, method): _needs(TABLE[action]) for (method, path), action in ROUTES.items()}


def _needs(row: Row) -> str:
    return "installation" if row.reach is Reach.INSTALLATION else row.scope.value


def _plain(text: str) -> str:
    return inspect.cleandoc(text).replace("\b", "").strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"docs/reference/{name}\n")
    for name, text in tables().items():
        (DIALECTS / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"docs/dialects/{name}\n")


if __name__ == "__main__":
    main()

"""`stoker apply`: make the endpoints what files say."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from stoker.cli import manifests, output, waiting
from stoker.cli.client import Client
from stoker.cli.durations import seconds
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command


@command
def apply(
    session: Session,
    file: Annotated[list[str], typer.Option("--file", "-f", help="A YAML file; - is standard input. Repeatable.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until all are as wanted.")] = True,
    timeout: Annotated[str, typer.Option(help="Longest wait for each endpoint, as in 10m.")] = "30m",
) -> None:
    """Create or update endpoints from YAML files, by name.

    A file may hold several documents, separated by ---. All files are read before anything is changed.
    """
    timeout_s = seconds(timeout)
    found = [manifest for path in file for manifest in manifests.read(path)]
    _check_names(found)
    changes: list[Any] = []
    for manifest in found:
        what, changed = _apply(session.client, manifest)
        changes.append(changed)
        if not session.as_json:
            output.line(f"{manifest.spec['name']} {what}")
            for text in changed["endpoint"]["launch"]["notes"]:
                output.note(f"note: {text}")
    if wait:
        for changed in changes:
            with output.progress(changed["endpoint"]["name"], quiet=session.as_json) as progress:
                changed["endpoint"] = waiting.follow(session.client, changed, progress, timeout_s=timeout_s)
    if session.as_json:
        output.document(changes)


@command
def plan(
    session: Session,
    file: Annotated[list[str], typer.Option("--file", "-f", help="A YAML file; - is standard input. Repeatable.")],
) -> None:
    """Show what `stoker apply` would do, and do nothing."""
    found = [manifest for path in file for manifest in manifests.read(path)]
    _check_names(found)
    plans = [_plan(session.client, manifest) for manifest in found]
    if session.as_json:
        output.document(plans)
        return
    for manifest, made in zip(found, plans, strict=True):
        _show_plan(manifest.spec["name"], made)


def _plan(client: Client, manifest: manifests.Manifest) -> Any:
    try:
        return client.post("/endpoints:plan", manifest.spec)
    except CliError as exc:
        raise (_at_its_place(manifest, exc) if exc.problems else exc) from exc


_SIGNS = {"create": "+", "update": "~", "none": "="}


def _show_plan(name: str, plan: Any) -> None:
    what = {"create": "is created", "none": "is as it should be"}.get(
        plan["action"], f"gets revision {plan['revision']}"
    )
    output.line(f"{_SIGNS[plan['action']]} {name} {what}")
    if plan["action"] == "update":
        for change in plan["changes"]:
            before, after = (json.dumps(change[side], ensure_ascii=False) for side in ("before", "after"))
            output.line(f"    {change['pointer']}: {before} -> {after}")
    for pool in plan["pools"]:
        if pool["replaced"]:
            output.line(f"    pool {pool['name']}: {output.plural(pool['replaced'], 'worker')} replaced")
        if pool["obstacle"] is not None:
            output.note(f"    pool {pool['name']}: no room for another worker now: {pool['obstacle']}")
        for text in pool["launch"]["notes"]:
            output.note(f"    note: {text}")
    for removed in plan["pools_removed"]:
        output.line(f"    pool {removed}: goes, with its workers")


def _check_names(found: list[manifests.Manifest]) -> None:
    first: dict[str, manifests.Manifest] = {}
    for manifest in found:
        name = manifest.spec["name"]
        if name in first:
            raise CliError(f"{manifest.place('/name')}: {name!r} is also at {first[name].place('/name')}", Exit.USAGE)
        first[name] = manifest


def _apply(client: Client, manifest: manifests.Manifest) -> tuple[str, Any]:
    """What was done, in a word, and the API's answer."""
    try:
        existing = client.named(manifest.spec["name"])
        if existing is None:
            return "created", client.post("/endpoints", manifest.spec)
        changed = client.put(f"/endpoints/{existing['id']}", manifest.spec)
        return "unchanged" if changed["operation"] is None else "updated", changed
    except CliError as exc:
        if not exc.problems:
            raise
        raise _at_its_place(manifest, exc) from exc


def _at_its_place(manifest: manifests.Manifest, error: CliError) -> CliError:
    texts = [f"{manifest.place(pointer)}: {detail} ({pointer or 'the document'})" for pointer, detail in error.problems]
    return CliError(texts[0], Exit.USAGE, details=tuple(texts[1:]), status=error.status)

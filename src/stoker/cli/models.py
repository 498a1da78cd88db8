"""`stoker models`: the catalogue, and what of it is on Stoker's host."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from stoker.cli import output
from stoker.cli.client import Client
from stoker.cli.durations import seconds
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

if TYPE_CHECKING:
    from rich.progress import Progress

Which = Annotated[str, typer.Argument(metavar="NAME", help="Its name, number, id or an alias.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is there.")]
Timeout = Annotated[str, typer.Option(help="Longest wait, as in 10m.")]
POLL_S = 0.25


@command
def ls(session: Session) -> None:
    """List the models that have a name here."""
    items = list(session.client.items("/models"))
    if session.as_json:
        output.document(items)
        return
    rows = [
        (item["number"], item["name"], _state(item), _size(item["size_bytes"]), _origin(item), item["path"])
        for item in items
    ]
    output.table(("MODEL", "NAME", "STATE", "SIZE", "FROM", "FILE"), rows)


@command
def add(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What endpoints call it.")],
    path: Annotated[str | None, typer.Option(help="A GGUF file or a folder on Stoker's host.")] = None,
    package: Annotated[str | None, typer.Option(help="An installed Python package; with --file.")] = None,
    hf: Annotated[str | None, typer.Option(help="A repository of Hugging Face, as in owner/name.")] = None,
    from_url: Annotated[str | None, typer.Option(help="The URL of one file.")] = None,
    file: Annotated[str | None, typer.Option(help="The file in it, or a pattern as in *Q4_K_M.gguf.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the repository.")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Another name. Repeatable.")] = None,
    sha256: Annotated[str | None, typer.Option(help="What its one file must have.")] = None,
    token_secret: Annotated[str | None, typer.Option(help="The secret to authorise the download with.")] = None,
    pinned: Annotated[bool, typer.Option("--pinned", help="Never remove it to make room for others.")] = False,
    pull: Annotated[bool, typer.Option("--pull", help="Fetch it now, and wait for it.")] = False,
    timeout: Timeout = "24h",
) -> None:
    """Add a model to the catalogue. It is fetched when an endpoint needs it, or by --pull."""
    source = {"path": path, "package": package, "huggingface": hf, "url": from_url, "file": file, "revision": revision}
    said = {field: value for field, value in source.items() if value is not None}
    if sum(field in said for field in ("path", "package", "huggingface", "url")) != 1:
        raise CliError("say where it comes from once: --path, --package, --hf or --from-url", Exit.USAGE)
    body: dict[str, Any] = {"name": name, "source": said, "aliases": alias or [], "pinned": pinned, "pull": pull}
    body |= {"sha256": sha256} if sha256 is not None else {}
    body |= {"token_secret": token_secret} if token_secret is not None else {}
    made = session.client.post("/models", body)
    # What is on the host already is only looked at.
    if pull or path is not None or package is not None:
        made = _follow(session, made, timeout_s=seconds(timeout))
    _done(session, made, "is in the catalogue" if made["state"] == "absent" else f"is {made['state']}")


@command
def pull(session: Session, which: Which, wait: Wait = True, timeout: Timeout = "24h") -> None:
    """Bring a model to Stoker's host now. What is here of it already is not fetched again."""
    model = session.client.post(f"/models/{_found(session.client, which)['id']}:pull")
    if wait:
        model = _follow(session, model, timeout_s=seconds(timeout))
    _done(session, model, f"is {_state(model)}")


@command
def show(session: Session, which: Which) -> None:
    """Show a model: where it comes from, how far it is, who uses it."""
    item = _found(session.client, which, own=False)
    if session.as_json:
        output.document(item)
        return
    output.facts(
        [
            ("name", item["name"]),
            ("number", item["number"]),
            ("id", item["id"]),
            ("aliases", ", ".join(item["aliases"])),
            ("from", _origin(item)),
            ("state", _state(item)),
            ("error", item["error"]),
            ("next try", item["retry_at"]),
            ("size", _size(item["size_bytes"])),
            ("sha256", item["sha256"]),
            ("token secret", item["token_secret"]),
            ("pinned", "yes" if item["pinned"] else None),
            ("file", item["path"]),
            ("used by", ", ".join(item["used_by"])),
        ]
    )


@command
def pin(
    session: Session,
    which: Which,
    off: Annotated[bool, typer.Option("--off", help="Let it make room for others again.")] = False,
) -> None:
    """Keep a model from being removed to make room for others."""
    changed = session.client.patch(f"/models/{_found(session.client, which)['id']}", {"pinned": not off})
    _done(session, changed, "is pinned" if changed["pinned"] else "is not pinned")


@command
def rm(session: Session, which: Which) -> None:
    """Delete a model that no endpoint uses, and what is here of it."""
    found = _found(session.client, which)
    session.client.delete(f"/models/{found['id']}")
    _done(session, found, "is deleted")


@command
def prune(session: Session) -> None:
    """Remove from the host what no active endpoint uses and nobody has pinned. The catalogue stays."""
    pruned = session.client.post("/models:prune")
    if session.as_json:
        output.document(pruned)
        return
    for name in pruned["models"]:
        output.line(name)
    output.note(f"{_size(pruned['bytes']) or '0 MiB'} came free")


def _found(client: Client, reference: str, *, own: bool = True) -> Any:
    if "/" in reference:
        # An alias with a slash has a meaning in a path; it is looked for in the list.
        matching = (item for item in client.items("/models") if reference in item["aliases"])
        found = next(matching, None)
        if found is None:
            raise CliError(f"no model {reference[:64]!r}; `stoker models ls` lists those there are", Exit.NOT_FOUND)
    else:
        found = client.get(f"/models/{quote(reference, safe='')}")
    if own and found["id"] is None:
        raise CliError(f"the model {found['name']!r} is of the installation: it is changed in the settings", Exit.USAGE)
    return found


def _follow(session: Session, model: Any, *, timeout_s: float) -> Any:
    """Wait until it is there, showing how far it is. Raises `CliError`."""
    deadline = time.monotonic() + timeout_s
    with _bar(session, model["name"]) as show:
        while model["state"] not in ("ready", "failed") or model["retry_at"] is not None:
            if time.monotonic() > deadline:
                text = f"{model['name']}: not there after {timeout_s:g} s; it goes on in the background"
                raise CliError(text, Exit.TIMED_OUT, details=(f"see `stoker models show {model['name']}`",))
            show(model)
            time.sleep(POLL_S)
            model = session.client.get(f"/models/{model['id']}")
        show(model)
    if model["state"] == "failed":
        raise CliError(f"{model['name']} cannot be fetched: {model['error']}")
    return model


@contextmanager
def _bar(session: Session, name: str) -> Iterator[Callable[[Any], None]]:
    """On a terminal a bar, else a line for every ten per cent; nothing with --json."""
    if session.as_json:
        yield lambda model: None
        return
    if not output.is_terminal(sys.stderr):
        shown = _Lines(name)
        yield shown.show
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=output.console(sys.stderr)) as progress:
        yield _updating(progress, name)


def _updating(progress: Progress, name: str) -> Callable[[Any], None]:
    task = progress.add_task(output.visible(name), total=None)

    def show(model: Any) -> None:
        failed = f" ({model['error']}; trying again)" if model["error"] else ""
        progress.update(
            task,
            description=output.visible(f"{name}{failed}"),
            completed=model["done_bytes"] or 0,
            total=model["size_bytes"],
        )

    return show


class _Lines:
    """How far it is, for whoever reads a log."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: object = None

    def show(self, model: Any) -> None:
        tens = None if model["progress"] is None else int(model["progress"] * 10) * 10
        told = (model["state"], tens, model["error"])
        if told != self._last and model["state"] != "ready":
            failed = f": {model['error']}; trying again" if model["error"] else ""
            output.note(f"{self._name}: {model['state']}{'' if tens is None else f' {tens} %'}{failed}")
        self._last = told


def _done(session: Session, model: Any, text: str) -> None:
    if session.as_json:
        output.document(model)
    else:
        output.line(f"model {model['name']} {text}")


def _state(item: Any) -> str:
    if item["state"] == "downloading" and item["progress"] is not None:
        return f"downloading {item['progress'] * 100:.0f} %"
    return str(item["state"])


def _size(count: int | None) -> str | None:
    if count is None:
        return None
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"


def _origin(item: Any) -> str:
    source = item["source"]
    if source is None:
        return str(item["origin"])
    [kind] = [name for name in ("path", "package", "huggingface", "url") if source[name] is not None]
    file = f"/{source['file']}" if source["file"] else ""
    return f"{kind} {source[kind]}{file}"

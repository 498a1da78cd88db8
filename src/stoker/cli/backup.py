"""`stoker backup` and `stoker restore`: all records of this machine's installation as one file, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stoker.cli import output
from stoker.cli.errors import CliError
from stoker.cli.session import Session, command

if TYPE_CHECKING:
    from stoker.store.archive import Manifest

Database = Annotated[
    str | None, typer.Option(help="The PostgreSQL database; default: that of the settings, or the data folder's file.")
]


@command
def backup(
    session: Session,
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    database: Database = None,
) -> None:
    """Write all records and keys to a file, while Stoker runs or not. Whoever has the file has the keys."""
    from stoker.backup import backup as write
    from stoker.domain.errors import StokerError

    try:
        with output.progress("backing up", quiet=session.as_json):
            manifest = write(session.settings(database=database), file.expanduser().absolute())
    except StokerError as exc:
        raise CliError(str(exc)) from exc
    _tell(session, f"wrote {file}", manifest)


@command
def restore(
    session: Session,
    file: Annotated[Path, typer.Argument(help="A file that `stoker backup` wrote.")],
    database: Database = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only read the file and its checksums.")] = False,
) -> None:
    """Bring back what a backup has, on either kind of store. Stoker must not be running."""
    from stoker.backup import restore as bring_back
    from stoker.domain.errors import StokerError
    from stoker.store.archive import verify

    path = file.expanduser().absolute()
    try:
        with output.progress("reading" if check else "restoring", quiet=session.as_json):
            manifest = verify(path) if check else bring_back(session.settings(database=database), path, force=force)
    except StokerError as exc:
        raise CliError(str(exc)) from exc
    _tell(session, f"{file} is whole" if check else f"restored {file}", manifest)


def _tell(session: Session, done: str, manifest: Manifest) -> None:
    if session.as_json:
        output.document(
            {
                "stoker": manifest.stoker,
                "revision": manifest.revision,
                "store": manifest.store,
                "created_at": manifest.created_at,
                "tables": dict(manifest.tables),
                "files": list(manifest.files),
            }
        )
        return
    rows = sum(manifest.tables.values())
    made = datetime.fromtimestamp(manifest.created_at, UTC)
    output.line(f"{done}: {rows} rows and {len(manifest.files)} files of {made:%Y-%m-%d %H:%M:%S} UTC")

"""`stoker backup` and `stoker restore`: the whole installation as one file, from one store into either.

A backup reads one moment of the database while everybody else goes on. A restore needs the installation to itself.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Connection

from stoker import __version__
from stoker.domain.errors import Conflict
from stoker.providers.keeping import MARK
from stoker.roles import Held, hold
from stoker.settings import Settings
from stoker.store import archive, opening
from stoker.store.archive import Manifest

# A previous role may be on its way out.
LOCK_WAIT_S = 2.0
# For the one transaction of a restore.
PATIENCE_S = 3_600.0
# By which workers and volumes at a provider are found again, in the folder with the provider's name.
_MARK = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9._-]*/{MARK}\Z")


def backup(settings: Settings, path: Path) -> Manifest:
    """Write a backup to `path`, for its owner's eyes alone, and read it again. Raises `Conflict` if it exists."""
    if path.exists():
        raise Conflict(f"{path} exists; name another file")
    aside = path.with_name(f".{path.name}.{os.getpid()}")

    def dump(tx: Connection) -> Manifest:
        return archive.dump(
            tx,
            aside,
            files=_files(settings, _marks(settings)),
            spool=settings.paths.tasks,
            stoker=__version__,
            now=time.time(),
        )

    before = os.umask(0o077)
    try:
        asyncio.run(opening.snapshot(settings.database, dump, file=settings.paths.database))
        manifest = archive.verify(aside)
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        # Fails where `rename` would replace what somebody has put there meanwhile.
        os.link(aside, path)
        return manifest
    except FileExistsError as exc:
        raise Conflict(f"{path} exists; name another file") from exc
    finally:
        os.umask(before)
        aside.unlink(missing_ok=True)


def _files(settings: Settings, marks: Iterable[str]) -> dict[str, Path]:
    found = {file.name: file for file in (*settings.paths.key_files, settings.paths.settings)}
    return found | {name: settings.data_dir / name for name in marks if _MARK.match(name)}


def _marks(settings: Settings) -> list[str]:
    return [f"{file.parent.name}/{MARK}" for file in sorted(settings.data_dir.glob(f"*/{MARK}"))]


def restore(settings: Settings, path: Path, *, force: bool) -> Manifest:
    """Put a backup in the place of all records and key files. `force`: even where there are some.

    Settings are put back only where there are none. Raises `Conflict` while Stoker runs, and `Invalid` or
    `Unsupported` for a file that cannot be used; then nothing was changed.
    """
    manifest = archive.verify(path)
    paths = settings.paths
    try:
        with hold(paths.supervisor_lock), hold(paths.control_lock, wait_s=LOCK_WAIT_S):
            staged = _stage(settings, path, manifest, force=force)
            bodies: list[Path] = []
            try:
                # Before the records that name them.
                for body in archive.read_bodies(path, manifest.bodies, paths.tasks):
                    bodies.append(body)  # noqa: PERF402 - each is known before it is written
                asyncio.run(_load(settings, path, manifest, force=force))
                for aside, file in staged.items():
                    aside.replace(file)
            except BaseException:
                for body in bodies:
                    body.unlink(missing_ok=True)
                raise
            finally:
                for aside in staged:
                    aside.unlink(missing_ok=True)
            # The gateway would serve the endpoints and keys of before.
            paths.table.unlink(missing_ok=True)
    except Held as exc:
        raise Conflict(f"Stoker runs on {settings.data_dir} (process {exc.pid}); `stoker down` first") from exc
    return manifest


def _stage(settings: Settings, path: Path, manifest: Manifest, *, force: bool) -> dict[Path, Path]:
    """Write the files of the backup aside: what fails, fails before anything was changed."""
    staged = {}
    for name, file in _files(settings, manifest.files).items():
        if name not in manifest.files or (file == settings.paths.settings and file.exists()):
            continue
        content = archive.read_file(path, name)
        if file.exists() and file.read_bytes() != content and not force:
            raise Conflict(f"{file} exists and is another; with --force it is replaced")
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = file.with_name(f".{file.name}.restored")
        aside.unlink(missing_ok=True)
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(content)
        staged[aside] = file
    return staged


async def _load(settings: Settings, path: Path, manifest: Manifest, *, force: bool) -> None:
    store = await opening.open_store(
        settings.database, file=settings.paths.database, data_dir=settings.data_dir, patience_s=PATIENCE_S
    )

    def load(tx: Connection) -> None:
        if archive.in_use(tx) and not force:
            raise Conflict("the installation has records of its own; with --force they are replaced")
        archive.load(tx, path, manifest)

    try:
        await store.write(load)
    finally:
        await store.close()

"""The portable form of all records: a zip of tables, row by row as JSON, and of the files beside the database, with the
bodies of tasks that lie in some.

Written from either store and loaded into either. Its manifest, written last, has a checksum of every member; another
member has that of the manifest. Used by `stoker.backup`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, MetaData, Table, delete, func, insert, select, text, tuple_

from stoker.domain.errors import Invalid, Unsupported
from stoker.store import schema
from stoker.store.tables import counters, metadata, tasks

FORMAT = 1
MANIFEST, SEAL = "manifest.json", "manifest.sha256"
ROWS_AT_ONCE = 1_000
# A row that is longer than this is none that Stoker wrote.
LINE_BYTES_MAX = 64 * 1024 * 1024
BLOCK_BYTES = 1024 * 1024
FILE_BYTES_MAX = 16 * 1024 * 1024
# Made by every start on an empty database: they do not make it one that is in use.
_ALWAYS_THERE = {"counters", "projects"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an archive says of itself. `created_at` is in seconds since the epoch; `tables` maps names to rows; `bodies`
    are the files of tasks.
    """

    stoker: str
    revision: str
    store: str
    created_at: float
    tables: Mapping[str, int]
    files: tuple[str, ...]
    bodies: tuple[str, ...] = ()


def dump(tx: Connection, path: Path, *, files: Mapping[str, Path], spool: Path, stoker: str, now: float) -> Manifest:
    """Write all that `tx` sees, which must be one moment, and the files that exist, with those of tasks in the folder
    `spool`. `path` must be new.
    """
    revision = schema.revision_of(tx)
    if revision is None:
        raise Invalid("there is nothing to back up: the database is empty")
    sums: dict[str, str] = {}
    rows: dict[str, int] = {}
    found: list[str] = []
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
        for table in _reflected(tx).sorted_tables:
            member = f"tables/{table.name}.jsonl"
            rows[table.name], sums[member] = _write_rows(archive, member, _rows(tx, table))
        for name, file in files.items():
            if file.is_file():
                found.append(name)
                content = file.read_bytes()
                sums[f"files/{name}"] = hashlib.sha256(content).hexdigest()
                archive.writestr(f"files/{name}", content)
        bodies = dict(_write_bodies(archive, _bodies_of(tx), spool))
        sums |= {f"tasks/{name}": digest for name, digest in bodies.items()}
        manifest = Manifest(
            stoker=stoker,
            revision=revision,
            store=tx.dialect.name,
            created_at=now,
            tables=rows,
            files=tuple(found),
            bodies=tuple(bodies),
        )
        _seal(archive, manifest, sums)
    return manifest


def _seal(archive: zipfile.ZipFile, manifest: Manifest, sums: Mapping[str, str]) -> None:
    document = {
        "format": FORMAT,
        "stoker": manifest.stoker,
        "revision": manifest.revision,
        "store": manifest.store,
        "created_at": manifest.created_at,
        "tables": manifest.tables,
        "files": manifest.files,
        "bodies": manifest.bodies,
        "sha256": sums,
    }
    content = json.dumps(document, indent=1).encode()
    archive.writestr(MANIFEST, content)
    archive.writestr(SEAL, hashlib.sha256(content).hexdigest())


def _reflected(tx: Connection) -> MetaData:
    """Stoker's tables as the database has them, which may be of an older version than this program."""
    found = MetaData()
    found.reflect(tx, only=lambda name, _: name in metadata.tables)
    return found


def _rows(tx: Connection, table: Table) -> Iterator[dict[str, Any]]:
    """All rows by primary key, a page at a time: no cursor, which asyncpg has only in transactions of its own."""
    key = [*table.primary_key.columns]
    query = select(table).order_by(*key).limit(ROWS_AT_ONCE)
    last: tuple[Any, ...] | None = None
    while True:
        page = (
            query if last is None else query.where(tuple_(*key) > tuple_(*last, types=[column.type for column in key]))
        )
        rows = [dict(row) for row in tx.execute(page).mappings()]
        yield from rows
        if len(rows) < ROWS_AT_ONCE:
            return
        last = tuple(rows[-1][column.name] for column in key)


def _write_rows(archive: zipfile.ZipFile, member: str, rows: Iterator[dict[str, Any]]) -> tuple[int, str]:
    digest, count = hashlib.sha256(), 0
    with archive.open(member, "w", force_zip64=True) as out:
        for row in rows:
            line = json.dumps(row, default=_coded).encode() + b"\n"
            digest.update(line)
            out.write(line)
            count += 1
    return count, digest.hexdigest()


def _bodies_of(tx: Connection) -> list[str]:
    found = _reflected(tx).tables.get(tasks.name)
    if found is None:
        return []
    columns = [found.c[name] for name in ("input_file", "result_file") if name in found.c]
    return sorted({name for column in columns for name in tx.scalars(select(column).where(column.is_not(None)))})


def _write_bodies(archive: zipfile.ZipFile, names: Iterable[str], spool: Path) -> Iterator[tuple[str, str]]:
    """Names of those that are there, and their digests: a task may be forgotten meanwhile, and its files with it."""
    for name in names:
        try:
            file = (spool / name).open("rb")
        except FileNotFoundError:
            continue
        digest = hashlib.sha256()
        with file, archive.open(f"tasks/{name}", "w", force_zip64=True) as out:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
                out.write(block)
        yield name, digest.hexdigest()


def _coded(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    raise TypeError(f"no table has a {type(value).__name__}")


def _decoded(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


def verify(path: Path) -> Manifest:
    """Read all of an archive. Raises `Invalid` for one that is damaged, `Unsupported` for one of a newer version."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _verified(archive)
    except FileNotFoundError as exc:
        raise Invalid(f"there is no file {path}") from exc
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, OSError) as exc:
        raise Invalid(f"{path} is no backup of Stoker, or a damaged one: {exc}") from exc


def _verified(archive: zipfile.ZipFile) -> Manifest:
    content = archive.read(MANIFEST)
    if hashlib.sha256(content).hexdigest() != archive.read(SEAL).decode("ascii"):
        raise ValueError("the manifest is not what was written")
    document = json.loads(content)
    if document["format"] != FORMAT:
        raise Unsupported(f"the backup has format {document['format']}, which this version cannot read: upgrade Stoker")
    for member, expected in document["sha256"].items():
        digest = hashlib.sha256()
        with archive.open(member) as stored:
            while block := stored.read(BLOCK_BYTES):
                digest.update(block)
        if digest.hexdigest() != expected:
            raise ValueError(f"{member} is not what was written")
    return Manifest(
        stoker=document["stoker"],
        revision=document["revision"],
        store=document["store"],
        created_at=document["created_at"],
        tables=document["tables"],
        files=tuple(document["files"]),
        bodies=tuple(document.get("bodies", ())),
    )


def read_file(path: Path, name: str) -> bytes:
    """One of the files beside the database, out of a verified archive."""
    with zipfile.ZipFile(path) as archive, archive.open(f"files/{name}") as stored:
        content = stored.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise Invalid(f"the file {name} in the backup is longer than any that Stoker keeps")
    return content


def read_bodies(path: Path, names: Iterable[str], spool: Path) -> Iterator[Path]:
    """Put the files of tasks of a verified archive into the folder `spool`, where they are not there already; each as
    soon as it is begun, so that the caller can undo it.
    """
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    with zipfile.ZipFile(path) as archive:
        for name in names:
            file = spool / Path(name).name
            if file.exists():
                continue
            yield file
            with (
                archive.open(f"tasks/{name}") as stored,
                open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out,
            ):
                while block := stored.read(BLOCK_BYTES):
                    out.write(block)
                out.flush()
                os.fsync(out.fileno())


def in_use(tx: Connection) -> bool:
    """Has the database records that somebody made?"""
    tables = [table for table in _reflected(tx).sorted_tables if table.name not in _ALWAYS_THERE]
    return any(tx.execute(select(table).limit(1)).first() is not None for table in tables)


def load(tx: Connection, path: Path, manifest: Manifest) -> None:
    """Put a verified archive in the place of all records, and bring it to the schema of this version."""
    if not schema.is_known(manifest.revision):
        raise Unsupported(
            f"the backup has schema {manifest.revision}, which this version does not know: upgrade Stoker"
        )
    term = _term(tx)
    before = _reflected(tx)
    before.drop_all(tx)
    tx.execute(text("DROP TABLE IF EXISTS alembic_version"))
    schema.upgrade(tx, to=manifest.revision)
    tables = _reflected(tx).sorted_tables
    # Migrations leave rows of their own behind.
    for table in reversed(tables):
        tx.execute(delete(table))
    with zipfile.ZipFile(path) as archive:
        for table in tables:
            if table.name in manifest.tables:
                _load_table(tx, table, archive)
    schema.upgrade(tx)
    # Gateways refuse a control of a lower term than one that they have seen.
    if _term(tx) < term:
        tx.execute(counters.update().where(counters.c.kind == "term").values(value=term))


def _term(tx: Connection) -> int:
    return int(tx.execute(select(counters.c.value).where(counters.c.kind == "term")).scalar_one_or_none() or 0)


def _load_table(tx: Connection, table: Table, archive: zipfile.ZipFile) -> None:
    with archive.open(f"tables/{table.name}.jsonl") as stored:
        while lines := list(islice(iter(lambda: stored.readline(LINE_BYTES_MAX), b""), ROWS_AT_ONCE)):
            rows = [{name: _decoded(value) for name, value in json.loads(line).items()} for line in lines]
            tx.execute(insert(table), rows)
    if tx.dialect.name == "postgresql":
        _continue_counting(tx, table)


def _continue_counting(tx: Connection, table: Table) -> None:
    """Numbers that PostgreSQL gives out by itself follow the highest that was loaded."""
    for column in table.primary_key.columns:
        sequence = tx.execute(select(func.pg_get_serial_sequence(table.name, column.name))).scalar_one_or_none()
        if sequence is not None:
            highest = select(func.max(column)).scalar_subquery()
            tx.execute(select(func.setval(sequence, func.coalesce(highest, 1), highest.is_not(None))))

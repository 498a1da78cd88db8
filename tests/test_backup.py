"""Backup and restore: between all kinds of stores, while writes go on, and of damaged or unwelcome files nothing."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, MetaData, func, select, text

from builders import endpoint as built_endpoint
from postgres import Server
from stoker import backup as backups
from stoker.domain.access import ApiKey, KeyId, Scope
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.errors import Conflict, Invalid, StokerError, Unsupported
from stoker.domain.operation import Decision
from stoker.domain.task import Body
from stoker.queue.spool import Spool
from stoker.roles import hold
from stoker.settings import Settings
from stoker.store import archive, endpoints, installation, journal, keys, schema, tasks
from stoker.store.base import Store
from stoker.store.installation import DEFAULT_PROJECT_ID
from stoker.store.tables import decisions, events, metadata
from store.places import KINDS, Place
from store.test_tasks import a_task

E = EndpointId("e")
ODD = "é 漢 \u2028 \" ' \\ \n"


def settings_of(place: Place) -> Settings:
    return Settings(data_dir=place.folder, database=place.url)


def make(kind: str, folder: Path, request: pytest.FixtureRequest) -> Place:
    folder.mkdir()
    if kind == "sqlite":
        return Place(folder, None)
    server: Server = request.getfixturevalue("postgres_server")
    return Place(folder, server.database())


@pytest.fixture(params=KINDS)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return make(request.param, tmp_path / "here", request)


@pytest.fixture(params=KINDS)
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return make(request.param, tmp_path / "there", request)


def pair(tx: Connection) -> None:
    """An event and a decision: a moment in which there is one more of either is none."""
    journal.add_event(tx, at=0.25, kind="k", message=ODD, endpoint=E)
    journal.add_decision(tx, E, Decision(at=1.5, current=0, workers=1, reason="r", inputs={"x": None}))


def a_key(number: int) -> ApiKey:
    return ApiKey(
        id=KeyId(f"k{number}"),
        number=number,
        project=ProjectId(1),
        name=ODD,
        digest=f"{number:064}",
        hint="sk",
        scopes=frozenset({Scope.READ}),
        endpoints=None,
        created_at=1e9 + 0.123456,
        expires_at=None,
        revoked_at=None,
    )


def fill(place: Place, *, pairs: int = 3) -> None:
    def write(tx: Connection) -> None:
        installation.add_default_project(tx, now=0.0)
        installation.next_term(tx)
        installation.next_number(tx, "endpoint", 2**33)
        made = built_endpoint()
        endpoints.add(tx, replace(made, spec=replace(made.spec, name="Näme")))
        for number in range(1, archive.ROWS_AT_ONCE + 3):
            keys.add(tx, a_key(number))
        for _ in range(pairs):
            pair(tx)

    async def body(store: Store) -> None:
        await store.write(write)

    place.run(body)
    settings_of(place).paths.admin_key.write_text("sk-secret\n")


def everything(place: Place) -> dict[str, list[tuple[object, ...]]]:
    found: dict[str, list[tuple[object, ...]]] = {}

    def read(tx: Connection) -> None:
        for table in metadata.sorted_tables:
            rows = tx.execute(select(table).order_by(*table.primary_key.columns))
            found[table.name] = [tuple(row) for row in rows]

    async def body(store: Store) -> None:
        await store.read(read)

    place.run(body)
    return found


def test_all_that_is_recorded_moves_between_stores(here: Place, there: Place, tmp_path: Path) -> None:
    fill(here)
    file = tmp_path / "b.stoker"
    written = backups.backup(settings_of(here), file)
    assert written.tables["keys"] == archive.ROWS_AT_ONCE + 2
    assert written.files == ("admin-key",)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    restored = backups.restore(settings_of(there), file, force=False)
    assert restored == written
    assert restored.store == ("postgresql" if here.kind == "postgres" else "sqlite")
    assert everything(there) == everything(here)
    key_file = settings_of(there).paths.admin_key
    assert key_file.read_text() == "sk-secret\n"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert sorted(path.name for path in there.folder.glob(".*")) == [], "nothing is left aside"

    async def goes_on(store: Store) -> None:
        await store.write(pair)
        assert await store.write(lambda tx: installation.next_number(tx, "endpoint")) == 2**33 + 1
        numbers = await store.read(lambda tx: tx.scalars(select(events.c.number).order_by(events.c.number)).all())
        assert numbers == [1, 2, 3, 4]

    there.run(goes_on)


def test_bodies_of_tasks_that_lie_in_files_come_along(here: Place, there: Place, tmp_path: Path) -> None:
    large = os.urandom(3 * archive.BLOCK_BYTES // 2)

    async def submit(store: Store) -> None:
        body = await Spool(settings_of(here).paths.tasks).keep(large)
        gone = Body(size=1, file="gone")
        await store.write(lambda tx: tasks.add(tx, [a_task("large", input=body), a_task("lost", input=gone)]))

    fill(here)
    here.run(submit)
    file = tmp_path / "b.stoker"
    written = backups.backup(settings_of(here), file)
    assert len(written.bodies) == 1
    spool = settings_of(there).paths.tasks
    with hold(settings_of(there).paths.control_lock), pytest.raises(Conflict):
        backups.restore(settings_of(there), file, force=False)
    assert not spool.exists()
    backups.restore(settings_of(there), file, force=False)
    [restored] = spool.iterdir()
    assert restored.read_bytes() == large
    assert stat.S_IMODE(restored.stat().st_mode) == 0o600
    restored.unlink()
    with pytest.raises(Conflict):
        backups.restore(settings_of(there), file, force=False)
    assert list(spool.iterdir()) == [], "what is not restored leaves no file behind"


def test_a_backup_is_of_one_moment_while_writes_go_on(here: Place, tmp_path: Path) -> None:
    fill(here)
    there = Place(tmp_path / "copy", None)
    there.folder.mkdir()
    stop, begun = threading.Event(), threading.Event()
    written = [0]

    async def keep_writing(store: Store) -> None:
        while not stop.is_set():
            await store.write(pair)
            written[0] += 1
            begun.set()

    writing = threading.Thread(target=lambda: here.run(keep_writing))
    writing.start()
    try:
        assert begun.wait(60)
        for index in range(3):
            before = written[0]
            manifest = backups.backup(settings_of(here), tmp_path / f"b{index}")
            assert manifest.tables["events"] == manifest.tables["decisions"] >= 3 + before
    finally:
        stop.set()
        writing.join(60)
    backups.restore(settings_of(there), tmp_path / "b2", force=False)

    async def same(store: Store) -> None:
        def count(tx: Connection) -> list[int]:
            return [tx.execute(select(func.count()).select_from(table)).scalar_one() for table in (events, decisions)]

        counts = await store.read(count)
        assert counts == [manifest.tables["events"]] * 2

    there.run(same)


def test_a_database_in_use_is_replaced_only_by_force(here: Place, tmp_path: Path) -> None:
    fill(here)
    file = tmp_path / "b"
    backups.backup(settings_of(here), file)
    before = everything(here)

    async def change(store: Store) -> None:
        await store.write(pair)
        await store.write(lambda tx: [installation.next_term(tx) for _ in range(5)])

    here.run(change)
    changed = everything(here)
    with pytest.raises(Conflict, match="--force"):
        backups.restore(settings_of(here), file, force=False)
    assert everything(here) == changed
    settings_of(here).paths.table.write_text("{}")
    backups.restore(settings_of(here), file, force=True)
    after = everything(here)
    assert {k: v for k, v in after.items() if k != "counters"} == {k: v for k, v in before.items() if k != "counters"}
    assert ("term", 6) in after["counters"], "terms never go back"
    assert not settings_of(here).paths.table.exists()


def test_nothing_is_restored_under_a_running_stoker(here: Place, tmp_path: Path) -> None:
    fill(here)
    file = tmp_path / "b"
    settings = settings_of(here)
    backups.backup(settings, file)
    with hold(settings.paths.supervisor_lock), pytest.raises(Conflict, match=f"process {os.getpid()}"):
        backups.restore(settings, file, force=True)

    async def another(store: Store) -> None:
        if here.url is None:
            return
        elsewhere = replace(settings, data_dir=tmp_path / "elsewhere")
        with pytest.raises(Conflict, match="another Stoker"):
            await asyncio.to_thread(backups.restore, elsewhere, file, force=True)

    here.run(another)


def test_a_backup_of_an_older_version_is_brought_up_to_date(here: Place, there: Place, tmp_path: Path) -> None:
    async def first(store: Store) -> None:
        def make_first(tx: Connection) -> None:
            found = MetaData()
            found.reflect(tx)
            found.drop_all(tx)
            schema.upgrade(tx, to="0001")
            tx.execute(text("INSERT INTO projects (id, name, created_at) VALUES (1, 'default', 0.5)"))
            tx.execute(text("INSERT INTO counters (kind, value) VALUES ('term', 7)"))

        await store.write(make_first)

    here.run(first)
    file = tmp_path / "b"
    assert backups.backup(settings_of(here), file).revision == "0001"
    backups.restore(settings_of(there), file, force=False)

    async def is_new(store: Store) -> None:
        assert await store.read(schema.revision_of) == schema.HEAD
        assert await store.write(installation.next_term) == 8

    there.run(is_new)


def _rewritten(source: Path, target: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name == member else old.read(name))
    return target


def test_a_damaged_file_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path / "a", None)
    fill(place)
    before = everything(place)
    file = tmp_path / "b"
    backups.backup(settings_of(place), file)
    content = file.read_bytes()
    with zipfile.ZipFile(file) as whole:
        manifest = json.loads(whole.read(archive.MANIFEST))
        entry = whole.getinfo("tables/keys.jsonl")
        # Behind the entry's own header: a flip of its date there would change nothing.
        middle = entry.header_offset + 30 + len(entry.filename) + len(entry.extra) + entry.compress_size // 2
        row = whole.read("tables/keys.jsonl").replace(b'"number": 1,', b'"number": 2,')
    broken = {
        "cut": content[: len(content) // 2],
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "text": b"not a backup",
        "empty": b"",
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    _rewritten(file, tmp_path / "row", "tables/keys.jsonl", row)
    _rewritten(file, tmp_path / "manifest", archive.MANIFEST, json.dumps(manifest | {"revision": "0001"}).encode())
    for name in (*broken, "row", "manifest", "none"):
        with pytest.raises(Invalid):
            backups.restore(settings_of(place), tmp_path / name, force=True)
    assert everything(place) == before


def test_a_backup_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path / "a", None)
    fill(place)
    file = tmp_path / "b"
    manifest = backups.backup(settings_of(place), file)

    async def body(store: Store) -> None:
        with pytest.raises(Unsupported, match="9999"):
            await store.write(lambda tx: archive.load(tx, file, replace(manifest, revision="9999")))

    place.run(body)
    assert everything(place)["projects"] == [(1, DEFAULT_PROJECT_ID, "default", 0.0)]


def test_a_backup_replaces_no_file_and_leaves_none_when_it_fails(tmp_path: Path) -> None:
    place = Place(tmp_path / "a", None)
    with pytest.raises(Invalid, match="no database"):
        backups.backup(settings_of(place), tmp_path / "b")
    fill(place)
    (tmp_path / "b").write_text("mine")
    with pytest.raises(Conflict, match="exists"):
        backups.backup(settings_of(place), tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "b").read_text() == "mine"


def test_settings_come_back_only_where_there_are_none(tmp_path: Path) -> None:
    one, two, three = (Place(tmp_path / name, None) for name in ("one", "two", "three"))
    fill(one)
    settings_of(one).paths.settings.write_text("port: 1234\n")
    for other in (two, three):
        other.folder.mkdir()
    settings_of(three).paths.settings.write_text("port: 4321\n")
    backups.backup(settings_of(one), tmp_path / "b")
    for other in (two, three):
        backups.restore(settings_of(other), tmp_path / "b", force=False)
    assert settings_of(two).paths.settings.read_text() == "port: 1234\n"
    assert settings_of(three).paths.settings.read_text() == "port: 4321\n"


def test_the_marks_of_workers_at_providers_come_along(tmp_path: Path) -> None:
    one, two = Place(tmp_path / "one", None), Place(tmp_path / "two", None)
    fill(one)
    for name in ("docker", "rented"):
        (one.folder / name).mkdir()
        (one.folder / name / "installation").write_text(f"mark of {name}\n")
    backups.backup(settings_of(one), tmp_path / "b")
    two.folder.mkdir()
    (two.folder / "docker").mkdir()
    (two.folder / "docker" / "installation").write_text("another\n")
    with pytest.raises(StokerError, match="docker/installation"):
        backups.restore(settings_of(two), tmp_path / "b", force=False)
    assert not two.file.exists(), "nothing was changed"
    backups.restore(settings_of(two), tmp_path / "b", force=True)
    for name in ("docker", "rented"):
        assert (two.folder / name / "installation").read_text() == f"mark of {name}\n", "its workers are found again"


def test_another_key_of_the_machine_is_replaced_only_by_force(tmp_path: Path) -> None:
    one, two = Place(tmp_path / "one", None), Place(tmp_path / "two", None)
    fill(one)
    backups.backup(settings_of(one), tmp_path / "b")
    two.folder.mkdir()
    settings_of(two).paths.admin_key.write_text("sk-other\n")
    with pytest.raises(StokerError, match="admin-key"):
        backups.restore(settings_of(two), tmp_path / "b", force=False)
    assert not two.file.exists(), "nothing was changed"
    backups.restore(settings_of(two), tmp_path / "b", force=True)
    assert settings_of(two).paths.admin_key.read_text() == "sk-secret\n"

"""A real Stoker on a real PostgreSQL: what users are promised of the file holds there too."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import postgres
from acceptance.installation import Installation, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


@pytest.fixture
def on_postgres(installation: Installation, postgres_server: postgres.Server) -> Installation:
    installation.environ["STOKER_DATABASE"] = postgres_server.database()
    return installation


def test_a_killed_control_finds_everything_again(on_postgres: Installation) -> None:
    on_postgres.up()
    on_postgres.create(low=1)
    until(on_postgres.ready_workers, what="a worker")
    assert on_postgres.get("/e/e/who")[0] == 200
    assert not (on_postgres.folder / "stoker.db").exists()
    workers, control = on_postgres.worker_pids(), on_postgres.role("stoker.serving")
    os.kill(control, signal.SIGKILL)
    assert on_postgres.get("/e/e/who")[0] == 200
    until(on_postgres.ready, what="the next control")
    assert on_postgres.role("stoker.serving") != control
    until(on_postgres.ready_workers, what="the worker again")
    assert on_postgres.worker_pids() == workers
    # And once more by a restart of the whole.
    assert on_postgres.interrupt(signal.SIGTERM) == 0
    on_postgres.up()
    until(on_postgres.ready_workers, what="the worker after a restart")
    assert on_postgres.worker_pids() == workers, "no orphan, no double"
    assert on_postgres.run("rm", "--yes", "e").returncode == 0
    until(lambda: not on_postgres.worker_pids(), what="the worker's end")
    assert postgres.PASSWORD not in on_postgres.log.read_text()


def test_requests_go_on_while_the_server_is_away(installation: Installation, tmp_path: Path) -> None:
    with postgres.server() as server:
        installation.environ["STOKER_DATABASE"] = server.database()
        installation.up()
        installation.create(low=1)
        until(installation.ready_workers, what="a worker")
        workers = installation.worker_pids()
        server.stop()

        def away() -> bool:
            status, body = installation.get("/api/v1/endpoints")
            assert status in (200, 502, 503), body
            return status == 503 and b"waiting for the database" in body

        until(away, what="an answer that says why")
        assert installation.get("/e/e/who")[0] == 200, "the gateway needs no database"
        server.start()
        until(installation.ready, what="control with its database")
        until(installation.ready_workers, what="the worker again")
        assert installation.worker_pids() == workers
        assert postgres.PASSWORD not in installation.log.read_text()
        assert installation.interrupt(signal.SIGINT) == 0


def test_a_second_stoker_on_one_database_is_refused(on_postgres: Installation, tmp_path: Path) -> None:
    on_postgres.up()
    second = Installation(tmp_path / "second")
    try:
        refused = second.run(
            "up", "--port", str(second.port), "--database", on_postgres.environ["STOKER_DATABASE"], timeout_s=60
        )
    finally:
        second.close()
    assert refused.returncode == 1
    assert "in use by another Stoker" in refused.stderr
    assert postgres.PASSWORD not in refused.stderr
    assert on_postgres.ready()


def test_an_installation_moves_from_its_file_to_a_server(
    installation: Installation, postgres_server: postgres.Server, tmp_path: Path
) -> None:
    installation.up()
    installation.create(low=1)
    until(installation.ready_workers, what="a worker")
    file = tmp_path / "all.stoker"
    written = installation.run("backup", str(file), "--json")
    assert written.returncode == 0, written.stderr
    assert json.loads(written.stdout)["tables"]["endpoints"] == 1
    refused = installation.run("restore", str(file), "--force")
    assert refused.returncode == 1
    assert "Stoker runs on" in refused.stderr
    assert installation.run("restore", str(file), "--check").returncode == 0
    assert installation.interrupt(signal.SIGINT) == 0
    installation.environ["STOKER_DATABASE"] = postgres_server.database()
    restored = installation.run("restore", str(file))
    assert restored.returncode == 0, restored.stderr
    installation.up()
    until(installation.ready_workers, what="a worker, with the records of before")
    assert installation.get("/e/e/who")[0] == 200, "and the same key"
    assert installation.run("restore", str(tmp_path / "none")).returncode == 1

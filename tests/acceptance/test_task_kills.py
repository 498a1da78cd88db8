"""Whatever is killed while tasks run: each acknowledged one ends once, runs once at a time, and its webhook arrives."""

from __future__ import annotations

import pytest

import postgres
from acceptance.installation import Installation
from acceptance.task_kills import Storm, receiving

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


@pytest.mark.parametrize(("store", "seed"), [("sqlite", 1), ("postgres", 2)])
def test_whatever_is_killed_each_task_ends_once(
    installation: Installation, request: pytest.FixtureRequest, store: str, seed: int
) -> None:
    if store == "postgres":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        installation.environ["STOKER_DATABASE"] = server.database()
    with receiving() as receiver:
        Storm(installation, seed=seed, tasks=200, longest_s=0.3, kills=6, receiver=receiver).run()

"""Whatever is killed while workers take tasks themselves: each acknowledged task ends once, and runs once at a time."""

from __future__ import annotations

import pytest

import postgres
from acceptance.installation import Installation
from acceptance.task_kills import Storm

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


@pytest.mark.parametrize(("store", "seed"), [("sqlite", 3), ("postgres", 4)])
def test_whatever_is_killed_each_task_that_workers_ask_for_ends_once(
    installation: Installation, request: pytest.FixtureRequest, store: str, seed: int
) -> None:
    if store == "postgres":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        installation.environ["STOKER_DATABASE"] = server.database()
    Storm(installation, seed=seed, tasks=200, longest_s=0.3, kills=6, pull=True).run()

"""Whatever is killed while workers take tasks themselves: each acknowledged task ends once, and runs once at a time."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import postgres
from acceptance.installation import Installation, until
from acceptance.test_task_kills import KILLS, TASKS, check_overlaps, kills, note, submit

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

WORKER = Path(__file__).parent / "pull_worker.py"


@pytest.mark.parametrize(("store", "seed"), [("sqlite", 3), ("postgres", 4)])
def test_whatever_is_killed_each_task_that_workers_ask_for_ends_once(
    installation: Installation, request: pytest.FixtureRequest, store: str, seed: int
) -> None:
    if store == "postgres":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        installation.environ["STOKER_DATABASE"] = server.database()
    log = installation.folder.with_suffix(".tasks")
    installation.up()
    installation.create(
        low=2,
        high=2,
        slots=4,
        mode="queue",
        launch={"command": [sys.executable, str(WORKER), str(log)]},
        probes={},
        queue={"pull": True, "lease_s": 3, "retries": {"attempts_max": 20, "backoff_s": 0.1}},
    )
    until(installation.ready_workers, what="a worker")
    chance = random.Random(seed)
    tasks = [{"id": f"t{n}", "input": {"s": chance.uniform(0.01, 0.3)}} for n in range(TASKS)]
    submitting = threading.Thread(target=submit, args=(installation, tasks))
    submitting.start()
    finals: dict[str, str] = {}
    for kill in itertools.islice(kills(installation, chance), KILLS):
        time.sleep(chance.uniform(0.3, 1.5))
        os.kill(kill, signal.SIGKILL)
        note(installation, finals)
    submitting.join()
    until(lambda: note(installation, finals) and len(finals) == TASKS, within_s=90, what="the end of all tasks")
    assert set(finals.values()) == {"succeeded"}
    check_overlaps(log)

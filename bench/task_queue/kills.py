"""10,000 tasks while control, the gateway and workers are killed at random, in rounds, in turns on both stores. Nothing
may be lost, changed, or run twice at a time; see `tests/acceptance/task_kills.py`.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from data_plane.report import Part, Row

import postgres
from acceptance.installation import Installation
from acceptance.task_kills import Storm, receiving

ROUNDS = 20
TASKS = 10_000
LONGEST_S = 0.03
ENDED_WITHIN_S = 900.0
# Long enough that what was killed comes back and gets something done in between.
PAUSE_S = (1.0, 6.0)


def run(*, quick: bool) -> Part:
    """All rounds; each has another seed. One that fails is told as broken, and the others go on."""
    part = Part("kills", "tasks of which each has a webhook, while processes are killed")
    killed: dict[str, Counter[str]] = {"SQLite": Counter(), "PostgreSQL": Counter()}
    took: Counter[str] = Counter()
    with postgres.server(durable=True) as server:
        for seed in range(2 if quick else ROUNDS):
            store = "PostgreSQL" if seed % 2 else "SQLite"
            began = time.perf_counter()
            try:
                found = _round(server if seed % 2 else None, seed, 500 if quick else TASKS)
            except AssertionError as exc:
                part.broken.append(f"round {seed} on {store}: {exc}")
                continue
            killed[store] += found
            killed[store]["rounds"] += 1
            took[store] += int(time.perf_counter() - began)
            sys.stderr.write(f"round {seed} on {store}: {dict(found)}\n")
    for store, counts in killed.items():
        names = {"rounds": "rounds", "control": "control killed", "gateway": "gateway", "worker": "workers"}
        figures = {name: float(counts[key]) for key, name in names.items()}
        part.rows.append(Row(store, {**figures, "s in all": float(took[store])}))
    return part


def _round(server: postgres.Server | None, seed: int, tasks: int) -> Counter[str]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-kills-")))
        receiver = stack.enter_context(receiving())
        installation = Installation(folder / "stoker")
        stack.callback(installation.close)
        if server is not None:
            installation.environ["STOKER_DATABASE"] = server.database()
        storm = Storm(
            installation,
            seed=seed,
            tasks=tasks,
            longest_s=LONGEST_S,
            receiver=receiver,
            pause_s=PAUSE_S,
            ended_within_s=ENDED_WITHIN_S,
        )
        storm.run()
        return storm.killed

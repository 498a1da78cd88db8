"""How long after its submission an idle system's task arrives at the worker: single tasks with pauses between them."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from pathlib import Path

from data_plane.report import Part, Row
from task_queue.systems import asked, stoker

import postgres

COUNT = 200
PAUSE_S = 0.05
BAR_MS = 20.0


def run(*, quick: bool) -> Part:
    """On both stores, one after the other."""
    part = Part("latency", "from the submission of one task to its arrival at the worker, nothing else going on")
    for store in ("SQLite", "PostgreSQL"):
        late_ms = sorted(1e3 * late for late in _late_s(store, 20 if quick else COUNT))
        p50, p99 = late_ms[len(late_ms) // 2], late_ms[int(len(late_ms) * 0.99)]
        part.rows.append(
            Row(f"Stoker, {store}", {"p50 ms": p50, "p90 ms": late_ms[int(len(late_ms) * 0.9)], "p99 ms": p99})
        )
        part.bar(f"p50 ms, {store}", p50, BAR_MS)
    return part


def _late_s(store: str, count: int) -> list[float]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-latency-")))
        server = stack.enter_context(postgres.server(durable=True)) if store == "PostgreSQL" else None
        one = stack.enter_context(stoker(folder, server))
        one.run(20)
        asked(one.worker_port, "/reset")
        for _ in range(count):
            time.sleep(PAUSE_S)
            # The same clock reads it when it arrives.
            one.call("POST", "/endpoints/e/tasks", json.dumps({"input": {"sent_at": time.time()}}).encode())
        time.sleep(1.0)
        late: list[float] = json.loads(asked(one.worker_port, "/counts"))["late_s"]
        return late

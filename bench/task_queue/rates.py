"""Tasks a second from submission to success, in turns: Stoker on both stores, Celery on Redis, Procrastinate."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from pathlib import Path

from data_plane.report import Part, Row
from task_queue.systems import PEERS, System, Took, celery, procrastinate, stoker

import postgres

COUNT = 2_000
ROUNDS = 3


def run(*, quick: bool) -> Part:
    """All of them, some rounds of some tasks each."""
    part = Part("rates", "no-op tasks, each one POST to a worker of 8 slots, from submission to success")
    count, rounds = (300, 1) if quick else (COUNT, ROUNDS)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-rates-")))
        systems = _systems(stack, folder, part)
        for system in systems:
            system.run(count // 4)
        found: dict[str, list[Took]] = {system.name: [] for system in systems}
        for _ in range(rounds):
            for system in systems:
                found[system.name].append(system.run(count))
    _tell(part, found, count)
    part.notes += [f"{system.name}: {system.durability}" for system in systems]
    return part


def _systems(stack: contextlib.ExitStack, folder: Path, part: Part) -> list[System]:
    server = stack.enter_context(postgres.server(durable=True))
    on_sqlite = stack.enter_context(stoker(folder))
    on_postgres = stack.enter_context(stoker(folder, server))
    systems = [
        System("Stoker, SQLite", "each commit is flushed (synchronous=FULL)", on_sqlite.run),
        System("Stoker, PostgreSQL", "each commit is flushed", on_postgres.run),
    ]
    if not PEERS.exists():
        part.notes.append("without .venv-bench/ there are no peers: `make .venv-bench/.done`")
        return systems
    # A server of its own: what Stoker's does would be counted for it.
    peers = stack.enter_context(postgres.server(durable=True))
    systems.append(stack.enter_context(celery(folder, durable=False)))
    systems.append(stack.enter_context(celery(folder, durable=True)))
    systems.append(stack.enter_context(procrastinate(folder, peers)))
    return systems


def _tell(part: Part, found: dict[str, list[Took]], count: int) -> None:
    rates = {name: statistics.median(count / each.wall_s for each in took) for name, took in found.items()}
    for name, took in found.items():
        figures = {
            "tasks/s": rates[name],
            "best": max(count / each.wall_s for each in took),
            "submit/s": statistics.median(count / each.submit_s for each in took),
            "CPU ms": 1e3 * statistics.median(each.cpu_s / count for each in took),
        }
        part.rows.append(Row(name, figures))
    for peer in ("Celery + Redis", "Procrastinate + PostgreSQL"):
        for mine in ("Stoker, SQLite", "Stoker, PostgreSQL"):
            if peer in rates:
                # Of each round by itself: a busy machine is as busy for both.
                pairs = zip(found[mine], found[peer], strict=True)
                part.bar(f"{peer} / {mine}", statistics.median(my.wall_s / its.wall_s for my, its in pairs), 0.5)

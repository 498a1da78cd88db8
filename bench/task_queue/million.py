"""A queue of a million tasks beside an empty one: submitting, leasing and running, listing, memory. On both stores."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
from data_plane.processes import Failed
from data_plane.report import Part, Row
from task_queue.systems import SUBMIT_AT_ONCE, Stoker, stoker

import postgres
from stoker.domain.endpoint import EndpointId
from stoker.domain.task import Body
from stoker.store import tasks as rows
from stoker.store.base import Store
from stoker.store.hot.base import Lease
from stoker.store.opening import open_store

COUNT = 1_000_000
RUN = 2_000
LEASES = 15
LEASE_AT_ONCE = 100
PAGES = 9
TIMES_BAR = 2.0
PAGE_MS_BAR = 50.0
MEMORY_MIB_BAR = 32.0
INPUT = Body(size=8, inline=b'{"n":10}')


def run_sqlite(*, quick: bool) -> Part:
    """On SQLite."""
    return _run("SQLite", quick=quick)


def run_postgres(*, quick: bool) -> Part:
    """On PostgreSQL."""
    return _run("PostgreSQL", quick=quick)


def _run(store: str, *, quick: bool) -> Part:
    """Empty, then full, through the API; then leases alone on the same database."""
    count = 20_000 if quick else COUNT
    part = Part("million", f"{count:,} queued tasks on {store} beside an empty queue")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-million-")))
        server = stack.enter_context(postgres.server(durable=True)) if store == "PostgreSQL" else None
        with stoker(folder, server) as one:
            empty, full = _both(one, count)
            data, url = one.installation.folder, one.installation.environ.get("STOKER_DATABASE")
            endpoint = one.call("GET", "/endpoints/e")["id"]
            # Nobody else may write.
            one.installation.interrupt()
        other = None if server is None else server.database()
        empty["lease ms"], full["lease ms"] = asyncio.run(_leases(data, url, other, EndpointId(endpoint)))
    part.rows += [Row("empty", empty), Row("full", full)]
    _hold(part, empty, full)
    return part


def _hold(part: Part, empty: dict[str, float], full: dict[str, float]) -> None:
    part.bar("time to submit times empty", empty["submit/s"] / full["submit/s"], TIMES_BAR)
    part.bar("time to run times empty", empty["run/s"] / full["run/s"], TIMES_BAR)
    part.bar(f"time to lease {LEASE_AT_ONCE} times empty", full["lease ms"] / empty["lease ms"], TIMES_BAR)
    part.bar("slowest kind of page, ms", full["page ms"], PAGE_MS_BAR)
    part.bar("memory of control, MiB more", full["MiB"] - empty["MiB"], MEMORY_MIB_BAR)


def _both(one: Stoker, count: int) -> tuple[dict[str, float], dict[str, float]]:
    one.run(RUN)
    empty = {"run/s": _median(3, lambda: RUN / one.run(RUN).wall_s)}
    one.call("POST", "/endpoints/e/queue:pause")
    empty |= _asked(one)
    began = time.perf_counter()
    while (queued := one.call("GET", "/endpoints/e/queue")["queued"]) < count:
        one.submit(min(50 * SUBMIT_AT_ONCE, count - queued))
    sys.stderr.write(f"{count} submitted in {time.perf_counter() - began:.0f} s\n")
    full = _asked(one)
    full["run/s"] = _median(3, lambda: _resumed(one))
    return empty, full


def _asked(one: Stoker) -> dict[str, float]:
    """With the queue paused: submitting, pages, memory."""
    queued = one.call("GET", "/endpoints/e/queue")["queued"]
    found = {"submit/s": 1 / _median(9, lambda: _timed(lambda: one.submit(SUBMIT_AT_ONCE)) / SUBMIT_AT_ONCE)}
    first = one.call("GET", "/endpoints/e/tasks?limit=1")["items"][0]["number"]
    queries = [f"limit=100&cursor={first + offset}" for offset in (0, queued // 2, max(0, queued - 200))]
    queries += ["limit=100&state=queued", "limit=100&state=failed"]
    pages = [_median(PAGES, lambda q=q: _timed(lambda: one.call("GET", f"/endpoints/e/tasks?{q}"))) for q in queries]  # type: ignore[misc]
    found["page ms"] = 1e3 * max(pages)
    found["queue ms"] = 1e3 * _median(PAGES, lambda: _timed(lambda: one.call("GET", "/endpoints/e/queue")))
    found["MiB"] = psutil.Process(one.installation.role("stoker.app")).memory_info().rss / 2**20
    return found


def _resumed(one: Stoker) -> float:
    """Tasks a second while it is let run, by what has succeeded."""
    done = one.succeeded()
    one.call("POST", "/endpoints/e/queue:resume")
    began = time.perf_counter()
    while (now := one.succeeded()) < done + RUN:
        time.sleep(0.02)
    took = time.perf_counter() - began
    one.call("POST", "/endpoints/e/queue:pause")
    return (now - done) / took


async def _leases(data: Path, url: str | None, other: str | None, endpoint: EndpointId) -> tuple[float, float]:
    """Milliseconds for one lease from the full queue, and from one of another database with few tasks."""
    store = await open_store(url, file=data / "stoker.db", data_dir=data)
    try:
        some = await store.read(lambda tx: rows.queued_of(tx, endpoint, limit=LEASES * LEASE_AT_ONCE))
        full = await _lease_ms(store, endpoint)
    finally:
        await store.close()
    store = await open_store(other, file=data / "other.db", data_dir=data)
    try:
        await store.write(lambda tx: rows.add(tx, [replace(task, input=INPUT) for task in some]))
        return await _lease_ms(store, endpoint), full
    finally:
        await store.close()


async def _lease_ms(store: Store, endpoint: EndpointId) -> float:
    took = []
    for _ in range(LEASES):
        wanted = Lease(endpoint, time.time(), LEASE_AT_ONCE, "bench", time.time() + 60.0)
        began = time.perf_counter()
        leased = await store.write(lambda tx, w=wanted: rows.lease(tx, w))  # type: ignore[misc]
        took.append(time.perf_counter() - began)
        if len(leased) != LEASE_AT_ONCE:
            raise Failed(f"{len(leased)} tasks were leased instead of {LEASE_AT_ONCE}")
    return 1e3 * statistics.median(took)


def _timed(does: Callable[[], object]) -> float:
    began = time.perf_counter()
    does()
    return time.perf_counter() - began


def _median(times: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(times))

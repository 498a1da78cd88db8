"""A queue of a million tasks beside an empty one: submitting, leasing and running, listing, memory. On both stores."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import psutil
from data_plane.processes import Failed
from data_plane.report import Part, Row
from task_queue.systems import SUBMIT_AT_ONCE, Stoker, stoker

import postgres
from acceptance.installation import until
from stoker.domain.endpoint import EndpointId
from stoker.domain.task import Body
from stoker.store import tasks as rows
from stoker.store.base import Store
from stoker.store.hot.base import Lease
from stoker.store.opening import open_store

COUNT = 1_000_000
RUN = 2_000
SUBMITS = 9
RUNS = 3
LEASES = 15
FILL_AT_ONCE = 5_000
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
    """Two installations, one of them with many queued tasks; all in turns, since a machine is not always the same.
    Leases alone are measured last, without control.
    """
    count = 20_000 if quick else COUNT
    part = Part("million", f"{count:,} queued tasks on {store} beside an empty queue")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-million-")))
        with contextlib.ExitStack() as running:
            both = [_started(stack, running, folder / name, store) for name in ("empty", "full")]
            places = [_Place.of(one) for one in both]
            asyncio.run(_fill(places[1], both[1], count))
            both[1].installation.up()
            until(both[1].installation.ready_workers, what="the worker", within_s=60)
            for one in both:
                one.connect_anew()
            found = _asked(both)
            for one in both:
                one.installation.interrupt(signal.SIGTERM)
            for each, ms in zip(found, asyncio.run(_leases(places)), strict=True):
                each["lease ms"] = ms
    part.rows += [Row("empty", found[0]), Row("full", found[1])]
    _hold(part, *found)
    return part


def _started(stack: contextlib.ExitStack, running: contextlib.ExitStack, folder: Path, store: str) -> Stoker:
    folder.mkdir()
    server = stack.enter_context(postgres.server(durable=True)) if store == "PostgreSQL" else None
    one = running.enter_context(stoker(folder, server))
    one.run(RUN)
    one.call("POST", "/endpoints/e/queue:pause")
    return one


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an installation's store is, and its endpoint."""

    data: Path
    url: str | None
    endpoint: EndpointId

    @classmethod
    def of(cls, one: Stoker) -> Self:
        endpoint = EndpointId(one.call("GET", "/endpoints/e")["id"])
        return cls(one.installation.folder, one.installation.environ.get("STOKER_DATABASE"), endpoint)

    async def opened(self) -> Store:
        return await open_store(self.url, file=self.data / "stoker.db", data_dir=self.data)


async def _fill(place: _Place, one: Stoker, count: int) -> None:
    """Tasks like one that was submitted, straight into the store while nobody else writes."""
    one.submit(1)
    one.installation.interrupt(signal.SIGTERM)
    store = await place.opened()
    try:
        [like] = await store.read(lambda tx: rows.queued_of(tx, place.endpoint, limit=1))
        like = replace(like, input=INPUT)
        for start in range(0, count, FILL_AT_ONCE):
            some = [replace(like, id=f"{like.id}-{n}") for n in range(start, start + FILL_AT_ONCE)]
            await store.write(lambda tx, s=some: rows.add(tx, s))  # type: ignore[misc]
    finally:
        await store.close()


def _hold(part: Part, empty: dict[str, float], full: dict[str, float]) -> None:
    part.bar("time to submit times empty", empty["submit/s"] / full["submit/s"], TIMES_BAR)
    part.bar("time to run times empty", empty["run/s"] / full["run/s"], TIMES_BAR)
    part.bar(f"time to lease {LEASE_AT_ONCE} times empty", full["lease ms"] / empty["lease ms"], TIMES_BAR)
    part.bar("slowest kind of page, ms", full["page ms"], PAGE_MS_BAR)
    part.bar("memory of control, MiB more", full["MiB"] - empty["MiB"], MEMORY_MIB_BAR)


def _asked(both: list[Stoker]) -> list[dict[str, float]]:
    """Submitting, pages and memory while the queues are paused; running while they are not, some at a time."""
    submits = _in_turns(both, SUBMITS, lambda one: _timed(lambda: one.submit(SUBMIT_AT_ONCE)))
    found = [{"submit/s": SUBMIT_AT_ONCE / took} for took in submits]
    # The beginning, the middle, what is near the end, and of a state.
    for part_of, more in ((0.0, ""), (0.5, ""), (0.99, ""), (0.0, "&state=queued"), (0.0, "&state=failed")):
        took = _in_turns(both, PAGES, lambda one, p=part_of, m=more: _page_s(one, p, m))  # type: ignore[misc]
        for each, page_s in zip(found, took, strict=True):
            each["page ms"] = max(each.get("page ms", 0.0), 1e3 * page_s)
    queue = _in_turns(both, PAGES, lambda one: _timed(lambda: one.call("GET", "/endpoints/e/queue")))
    runs = _in_turns(both, RUNS, lambda one: 1 / _resumed(one))
    for each, queue_s, run_s, one in zip(found, queue, runs, both, strict=True):
        each["queue ms"], each["run/s"] = 1e3 * queue_s, 1 / run_s
        each["MiB"] = psutil.Process(one.installation.role("stoker.serving")).memory_info().rss / 2**20
    return found


def _page_s(one: Stoker, part_of: float, more: str) -> float:
    place = int(one.call("GET", "/endpoints/e/queue")["queued"] * part_of)
    return _timed(lambda: one.call("GET", f"/endpoints/e/tasks?limit=100&cursor={place}{more}"))


def _in_turns(both: list[Stoker], times: int, measure: Callable[[Stoker], float]) -> list[float]:
    took = [[measure(one) for one in both] for _ in range(times)]
    return [statistics.median(each) for each in zip(*took, strict=True)]


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


async def _leases(places: list[_Place]) -> list[float]:
    """Milliseconds for a lease of some, from each of the stores."""
    stores = [await place.opened() for place in places]
    took: list[list[float]] = [[] for _ in places]
    try:
        for _ in range(LEASES):
            for place, store, each in zip(places, stores, took, strict=True):
                each.append(await _lease_ms(store, place.endpoint))
    finally:
        for store in stores:
            await store.close()
    return [statistics.median(each) for each in took]


async def _lease_ms(store: Store, endpoint: EndpointId) -> float:
    wanted = Lease(endpoint, time.time(), LEASE_AT_ONCE, "bench", time.time() + 60.0)
    began = time.perf_counter()
    leased = await store.write(lambda tx: rows.lease(tx, wanted))
    took = time.perf_counter() - began
    if len(leased) != LEASE_AT_ONCE:
        raise Failed(f"{len(leased)} tasks were leased instead of {LEASE_AT_ONCE}")
    return 1e3 * took


def _timed(does: Callable[[], object]) -> float:
    began = time.perf_counter()
    does()
    return time.perf_counter() - began

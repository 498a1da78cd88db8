"""Control with a big fleet on the fake provider, in a process of its own: memory by part, passes by step, idle cost.

`bench/control.py` starts it. The fleet is written into the store, the real control loads it, and a real gateway takes
its table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import gc
import json
import os
import pstats
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()


def resident_mib() -> float:
    """What this process holds, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


bare_mib = resident_mib()

from sqlalchemy import Connection

from stoker.app import Stoker
from stoker.control import ids
from stoker.control.measuring import Network
from stoker.domain.endpoint import Endpoint, EndpointId, EndpointSpec, Phase, PoolSpec, ProjectId, ScaleBounds
from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, Placement, PortRange
from stoker.domain.launch import Launch, LaunchSpec
from stoker.domain.probe import Probe
from stoker.domain.worker import Address, Worker, WorkerId, WorkerSpec, WorkerState
from stoker.providers.fake import FakeProvider
from stoker.serving import Outside, opened
from stoker.settings import Settings
from stoker.store import endpoints, installation, revisions, workers
from stoker.store.opening import open_store
from stoker.telemetry.logs import log_to_stderr

imports_s = time.perf_counter() - BEGAN
CARDS = 8


def hosts(count: int) -> tuple[Offer, ...]:
    """Hosts with eight cards each."""
    cards = tuple(GpuDevice(index, f"card-{index}", "h100", 80.0) for index in range(CARDS))
    return tuple(
        Offer(host=f"host-{n:05}", vcpu=128, ram_gib=1024, gpus=cards, ports=PortRange(20_000, 29_999))
        for n in range(count)
    )


async def nothing(address: Address, what: Any) -> str | None:
    """Every worker is well, and serves whatever it should."""
    return None


async def page(address: Address, path: str) -> str:
    """No worker has metrics."""
    return ""


def outside(provider: FakeProvider) -> Outside:
    """No machines and no network."""
    return Outside({"fake": provider}, Network(nothing, nothing, page))


def spec(name: str, low: int, high: int) -> EndpointSpec:
    """Of workers with one card."""
    pool = PoolSpec(provider="fake", hardware=HardwareRequest(gpu_count=1), bounds=ScaleBounds(min=low, max=high))
    return EndpointSpec(name=name, launch=LaunchSpec(command=("serve", "{port}")), pools=(pool,))


def fill(tx: Connection, *, count: int, each: int, ready: bool, now: float) -> None:
    """Write endpoints with `each` workers: ready ones, or none yet."""
    installation.add_default_project(tx, now=now)
    installation.next_number(tx, "endpoint", count)
    installation.next_number(tx, "worker", count * each)
    for index in range(count):
        endpoint = _endpoint(index, each, now)
        endpoints.add(tx, endpoint)
        revisions.add(tx, endpoint.as_revision())
        for number in range(index * each, (index + 1) * each) if ready else ():
            workers.add(tx, _worker(endpoint, number, now))


def _endpoint(index: int, each: int, now: float) -> Endpoint:
    name = f"endpoint-{index}"
    launch = Launch(engine=None, command=("serve", "{port}"), probe=Probe(), models=("model",))
    return Endpoint(
        id=EndpointId(ids.uuid7(now)),
        number=index + 1,
        project=ProjectId(1),
        slug=name,
        spec=spec(name, each, each),
        launches={"default": launch},
        revision=1,
        launched=1,
        alike={"default": (1,)},
        phase=Phase.ACTIVE,
        desired=each,
        created_at=now,
        updated_at=now,
    )


def _worker(endpoint: Endpoint, number: int, now: float) -> Worker:
    host, card = divmod(number, CARDS)
    port = 20_000 + card
    return Worker(
        id=WorkerId(ids.uuid7(now)),
        number=number + 1,
        endpoint=endpoint.id,
        pool="default",
        revision=1,
        provider="fake",
        state=WorkerState.READY,
        slots=1,
        created_at=now,
        placement=Placement(host=f"host-{host:05}", gpus=(card,), port=port),
        address=Address(host="127.0.0.1", port=port),
        started_at=now,
        acknowledged_at=now,
        ready_at=now,
    )


async def run_those_of(stoker: Stoker, provider: FakeProvider) -> None:
    """Have the provider run what the store says that it runs."""
    for worker in await stoker.store.read(lambda tx: workers.held(tx, released_after=0)):
        port = None if worker.address is None else worker.address.port
        await provider.start(
            WorkerSpec(id=worker.id, endpoint=worker.endpoint, name="w", command=("serve",), port=port)
        )


def gateway_command(folder: str, listening: int, lifeline: int) -> list[str]:
    """What starts a gateway on these descriptors."""
    command = [sys.executable, "-m", "stoker.gateway.main", "--data-dir", folder]
    return [*command, "--listen-fd", str(listening), "--lifeline-fd", str(lifeline)]


@contextlib.contextmanager
def gateway(settings: Settings) -> Iterator[None]:
    """A real gateway beside this control, on a free port."""
    listening = socket.create_server(("127.0.0.1", settings.port), backlog=1024)
    reading, writing = os.pipe()
    process = subprocess.Popen(
        gateway_command(str(settings.data_dir), listening.fileno(), reading),
        pass_fds=(listening.fileno(), reading),
        stderr=subprocess.DEVNULL,
    )
    os.close(reading)
    listening.close()
    try:
        yield
    finally:
        os.close(writing)
        process.wait(60)


class Stopwatch:
    """Wall and CPU seconds of this process."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {"wall_s": time.perf_counter() - self._wall, "cpu_s": time.process_time() - self._cpu}


async def settled(stoker: Stoker) -> None:
    """Wait until no pass is due or under way."""
    while not stoker.reconciler.idle:
        await asyncio.sleep(0.002)


STEPS = (
    ("observe", ("observer.py", "observe")),
    ("gather facts", ("reconciler.py", "_facts")),
    ("plan", ("passes.py", "run")),
    ("commit", ("fleet.py", "commit")),
    ("actions and publishing", ("reconciler.py", "_carry_out")),
    ("of it publishing", ("signals.py", "publish")),
)


async def one_pass(stoker: Stoker) -> None:
    """Look at the provider and at every endpoint."""
    for managed in stoker.providers.all():
        await managed.observer.observe()
    stoker.reconciler.wake_all()
    await settled(stoker)


async def passes(stoker: Stoker, rounds: int, profile: Path | None) -> dict[str, Any]:
    """The median of some, and each step's share by a profile, which makes it slower as a whole."""
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        gc.collect()
        watch = Stopwatch()
        await one_pass(stoker)
        found.append(watch.read())
    best = sorted(found, key=lambda each: each["wall_s"])[len(found) // 2]
    profiler = cProfile.Profile()
    profiler.enable()
    await one_pass(stoker)
    profiler.disable()
    stats = pstats.Stats(profiler)
    if profile is not None:
        stats.dump_stats(profile)
    table: dict[Any, Any] = stats.stats  # type: ignore[attr-defined]
    total = stats.total_tt  # type: ignore[attr-defined]
    shares = {
        step: sum(
            row[3] for (file, _, name), row in table.items() if file.endswith(f"/{where[0]}") and name == where[1]
        )
        / total
        for step, where in STEPS
    }
    return {**best, "shares": shares}


def reachable(folder: Path) -> tuple[Settings, socket.socket]:
    """Settings with a free port, and the socket of the link."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(data_dir=folder, port=port)
    settings.paths.run.mkdir(parents=True, exist_ok=True)
    link = socket.socket(socket.AF_UNIX)
    link.bind(str(settings.paths.link_socket))
    return settings, link


async def loaded(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Load a fleet that is ready, and measure."""
    memory = {"Python": bare_mib, "imports": resident_mib() - bare_mib}
    times = {"imports": imports_s}
    store = await open_store(options.database, file=folder / "stoker.db", data_dir=folder)
    each = options.workers // options.endpoints
    await store.write(lambda tx: fill(tx, count=options.endpoints, each=each, ready=True, now=time.time() - 3600))
    await store.close()
    del store
    gc.collect()
    memory["leftovers of making the fleet"] = resident_mib() - sum(memory.values())
    settings, link = reachable(folder)
    provider = FakeProvider(offers=hosts(-(-options.workers // CARDS)))
    watch = Stopwatch()
    store = await open_store(options.database, file=folder / "stoker.db", data_dir=folder)
    times["open the store"] = watch.read()["wall_s"]
    memory["store"] = resident_mib() - sum(memory.values())
    async with opened(settings, store, outside(provider)) as stoker:
        await run_those_of(stoker, provider)
        gc.collect()
        memory["fake provider"] = resident_mib() - sum(memory.values())
        watch = Stopwatch()
        await stoker.link.serve(link)
        await stoker.start()
        await settled(stoker)
        times["load and start"] = watch.read()["wall_s"]
        gc.collect()
        memory["fleet, table of the link, probes"] = resident_mib() - sum(memory.values())
        watch = Stopwatch()
        faces = stoker.faces()
        times["faces"] = watch.read()["wall_s"]
        memory["faces"] = resident_mib() - sum(memory.values())
        with gateway(settings):
            watch = Stopwatch()
            while stoker.link.acked < stoker.link.seq:
                await asyncio.sleep(0.01)
            times["gateway has its table"] = watch.read()["wall_s"]
            await settled(stoker)
            await asyncio.sleep(2)
            found = await passes(stoker, options.rounds, options.profile)
            gc.collect()
            memory["gateway connected, after passes"] = resident_mib() - sum(memory.values())
            before = Stopwatch()
            await asyncio.sleep(options.idle_s)
            idle = before.read()
        del faces
        own = memory["fake provider"] + memory["leftovers of making the fleet"]
        return {
            "pass": found,
            "idle_cpu": idle["cpu_s"] / idle["wall_s"],
            "memory_mib": memory,
            "resident_mib": sum(memory.values()),
            "resident_without_provider_mib": sum(memory.values()) - own,
            "start_s": times,
        }


async def grown(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """From no worker to all of them ready, starts included."""
    store = await open_store(options.database, file=folder / "stoker.db", data_dir=folder)
    each = options.workers // options.endpoints
    await store.write(lambda tx: fill(tx, count=options.endpoints, each=each, ready=False, now=time.time() - 3600))
    provider = FakeProvider(offers=hosts(-(-options.workers // CARDS)))
    settings = Settings(data_dir=folder)
    async with opened(settings, store, outside(provider)) as stoker:
        watch = Stopwatch()
        await stoker.start()
        while sum(w.state is WorkerState.READY for w in stoker.fleet.all_workers()) < options.workers:
            await asyncio.sleep(0.05)
        return {"grow": watch.read(), "workers": options.workers}


def main() -> None:
    """Measure one part and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("loaded", "grown"))
    parser.add_argument("--endpoints", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--database")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle-s", type=float, default=10.0)
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    import uvloop

    log_to_stderr("warning")
    measure = {"loaded": loaded, "grown": grown}[options.part]
    with tempfile.TemporaryDirectory() as name:
        sys.stdout.write(json.dumps(uvloop.run(measure(options, Path(name)))) + "\n")


if __name__ == "__main__":
    main()

"""Creates through the API: clients over HTTP, a real gateway that passes them on, control with the fake provider.

`bench/control.py` starts it. Control is a process of its own (`serve`), with the real store on disk; so are the
clients (`clients`), whose CPU is nobody's concern.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from control_fleet import gateway_command, outside

READY_WITHIN_S = 30.0
DRAINED_WITHIN_S = 300.0


def serve(options: argparse.Namespace) -> None:
    """Control on the fake provider, until its lifeline ends."""
    import uvloop

    from stoker.providers.fake import FakeProvider
    from stoker.roles import Lifeline
    from stoker.serving import serve as serve_control
    from stoker.settings import read
    from stoker.telemetry.logs import log_to_stderr

    log_to_stderr("warning")
    settings = read(os.environ, data_dir=options.data_dir)

    async def run() -> None:
        await serve_control(
            settings,
            http=socket.socket(fileno=options.http_fd),
            link=socket.socket(fileno=options.link_fd),
            lifeline=Lifeline.open(options.lifeline_fd),
            outside=outside(FakeProvider()),
        )

    if options.profile is None:
        uvloop.run(run())
        return
    import cProfile

    profiler = cProfile.Profile()
    profiler.runcall(uvloop.run, run())
    profiler.dump_stats(options.profile)


@contextmanager
def installation(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a control with a gateway before it, and control's process."""
    run = folder / "run"
    run.mkdir(mode=0o700)
    inside = {}
    for name in ("control", "link"):
        inside[name] = socket.socket(socket.AF_UNIX)
        inside[name].bind(str(run / f"{name}.sock"))
        inside[name].listen(1024)
    public = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = public.getsockname()[1]
    reading, writing = os.pipe()
    environ = {**os.environ, "STOKER_PORT": str(port)}
    if options.database:
        environ["STOKER_DATABASE"] = options.database
    command = [sys.executable, __file__, "serve", "--data-dir", str(folder), "--lifeline-fd", str(reading)]
    command += ["--http-fd", str(inside["control"].fileno()), "--link-fd", str(inside["link"].fileno())]
    command += [] if options.profile is None else ["--profile", str(options.profile)]
    control = subprocess.Popen(command, pass_fds=(reading, *(each.fileno() for each in inside.values())), env=environ)
    gateway = subprocess.Popen(
        gateway_command(str(folder), public.fileno(), reading),
        pass_fds=(reading, public.fileno()),
        env=environ,
        stderr=subprocess.DEVNULL,
    )
    for each in (public, *inside.values()):
        each.close()
    os.close(reading)
    try:
        yield f"http://127.0.0.1:{port}", psutil.Process(control.pid)
    finally:
        os.close(writing)
        control.wait(60)
        gateway.wait(60)


async def _client(session: aiohttp.ClientSession, url: str, names: Iterator[int], low: int, took: list[float]) -> None:
    for number in names:
        body = {
            "name": f"endpoint-{number}",
            "launch": {"command": ["serve", "{port}"]},
            "pools": [{"provider": "fake", "bounds": {"min": low, "max": 4}}],
        }
        began = time.perf_counter()
        async with session.post(f"{url}/api/v1/endpoints", json=body) as response:
            if response.status != 201:
                raise SystemExit(f"HTTP {response.status}: {await response.text()}")
            await response.read()
        took.append(time.perf_counter() - began)


async def _ready(session: aiohttp.ClientSession, url: str, folder: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if (folder / "admin-key").exists():
            key = (folder / "admin-key").read_text(encoding="ascii").strip()
            session.headers["Authorization"] = f"Bearer {key}"
            async with session.get(f"{url}/api/v1/info") as response:
                if response.status == 200 and (await response.json())["gateway"]["connected"]:
                    return
        await asyncio.sleep(0.05)
    raise SystemExit("it does not become ready")


async def creates(url: str, control: psutil.Process, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """So many creates by clients side by side; with a floor, until all their workers are ready."""
    took: list[float] = []
    async with aiohttp.ClientSession() as session:
        await _ready(session, url, folder)
        cpu, began = control.cpu_times(), time.perf_counter()
        names = iter(range(options.creates))
        await asyncio.gather(*(_client(session, url, names, options.min, took) for _ in range(options.clients)))
        wall_s = time.perf_counter() - began
        after = control.cpu_times()
        done_s = await _all_ready(session, url, options) + wall_s if options.min else wall_s
        last = control.cpu_times()
    took.sort()
    return {
        "creates": options.creates,
        "clients": options.clients,
        "min": options.min,
        "per_s": options.creates / wall_s,
        "cpu_ms_each": 1e3 * (after.user + after.system - cpu.user - cpu.system) / options.creates,
        "p50_ms": 1e3 * took[len(took) // 2],
        "p99_ms": 1e3 * took[len(took) * 99 // 100],
        "all_ready_s": done_s,
        "cpu_ms_each_until_ready": 1e3 * (last.user + last.system - cpu.user - cpu.system) / options.creates,
    }


async def _all_ready(session: aiohttp.ClientSession, url: str, options: argparse.Namespace) -> float:
    began = time.perf_counter()
    while time.perf_counter() - began < DRAINED_WITHIN_S:
        # The long list is asked for only when it may be complete.
        async with session.get(f"{url}/api/v1/info") as response:
            there = (await response.json())["workers"]
        if there < options.creates * options.min:
            await asyncio.sleep(0.1)
            continue
        async with session.get(f"{url}/api/v1/workers") as response:
            shown = (await response.json())["items"]
        if sum(worker["state"] == "ready" for worker in shown) >= options.creates * options.min:
            return time.perf_counter() - began
        await asyncio.sleep(0.2)
    raise SystemExit("not all workers become ready")


def main() -> None:
    """`serve`, or measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("serve", "clients"))
    parser.add_argument("--data-dir", type=Path)
    for name in ("--http-fd", "--link-fd", "--lifeline-fd"):
        parser.add_argument(name, type=int)
    parser.add_argument("--creates", type=int, default=2_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--min", type=int, default=0)
    parser.add_argument("--database")
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    if options.part == "serve":
        serve(options)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with installation(folder, options) as (url, control):
            sys.stdout.write(json.dumps(asyncio.run(creates(url, control, folder, options))) + "\n")


if __name__ == "__main__":
    main()

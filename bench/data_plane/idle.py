"""Thousands of idle keep-alive clients: the gateway's memory, and what they cost the others."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from data_plane import peers, unary
from data_plane.processes import BENCH, cpu_s, descriptors, free_port, memory_bytes, process, python
from data_plane.report import Part, Row

CLIENTS: Final = 10_000
# A gateway takes as many clients as half of its descriptors allow: each may need one to a worker.
_SPARE: Final = 200


def run(*, quick: bool) -> Part:
    """The table, with the bars that the gateway is held to."""
    part = Part("idle", "idle keep-alive clients, each of which has asked once")
    clients = 500 if quick else min(CLIENTS, descriptors() // 2 - _SPARE)
    if clients < CLIENTS and not quick:
        part.notes.append(f"this machine's limit of {descriptors():,} descriptors allows {clients:,} clients")
    with tempfile.TemporaryDirectory(prefix="bench") as name, contextlib.ExitStack() as stack:
        folder, worker = Path(name), free_port()
        stack.enter_context(process(python("worker", str(worker)), port=worker, log=folder / "worker.log"))
        proxy = stack.enter_context(peers.stoker(worker, folder))
        requests = 1_000 if quick else 6_000
        alone = _costs(part, proxy, requests)
        command = python("idle_load", str(proxy.port), peers.STOKER.target, str(clients))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, cwd=BENCH) as load:
            assert load.stdout is not None
            assert load.stdin is not None
            connected = int(load.stdout.readline())
            mib = memory_bytes(proxy.pid) / 2**20
            among = _costs(part, proxy, requests)
            load.stdin.close()
            kept = int(load.stdout.readline())
    if connected < clients or kept < clients:
        part.broken.append(f"of {clients} clients {connected} were served and {kept} kept")
    part.rows.append(Row("alone", {"clients": 0, "µs": alone[0], "p50 ms": alone[1]}))
    part.rows.append(Row("among idle clients", {"clients": kept, "MiB": mib, "µs": among[0], "p50 ms": among[1]}))
    part.bar("MiB of the gateway", mib, 150.0)
    part.bar("CPU of a request among them, beside alone", among[0] / alone[0], 1.15, "noise included")
    return part


def _costs(part: Part, proxy: peers.Proxy, requests: int) -> tuple[float, float]:
    costs, times = [], []
    for _ in range(4):
        before = cpu_s(proxy.pid)
        result = unary.ask(proxy.port, peers.STOKER, requests=requests)
        costs.append(1e6 * (cpu_s(proxy.pid) - before) / requests)
        times.append(result.p50_ms)
        part.broken += [f"{count} x {what}" for what, count in result.wrong.items()]
    # The first one warms up.
    return median(costs[1:]), median(times[1:])

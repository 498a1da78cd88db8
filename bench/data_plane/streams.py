"""Streams of events, 20 a second each: none broken, CPU of the proxy for each event, memory for each stream.

Begins with as many streams as are asked for; where the machine is the limit, goes down until proxy, worker and load
leave a fifth of it idle.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from data_plane import peers
from data_plane.peers import Peer
from data_plane.processes import BENCH, Failed, cpu_s, free_port, memory_bytes, process, python
from data_plane.report import Part, Row
from data_plane.streams_load import STARTS_PER_S, Result

EVERY_MS: Final = 50
IDLE_SHARE_MIN: Final = 20.0
COUNTS: Final = (2_000, 1_500, 1_000, 700, 500, 300)
PEERS: Final = (peers.STOKER, peers.NGINX_UNBUFFERED)


@dataclass(frozen=True, slots=True)
class Found:
    """Of one proxy with so many streams: µs of its CPU for each event, percent of the machine that all of it left.

    `complete`: all streams were under way all the time.
    """

    us: float
    idle: float
    rate: float
    kib: float
    complete: bool
    result: Result


def run(*, quick: bool) -> Part:
    """The table, with the bars that the gateway is held to."""
    part = Part("streams", f"streams with an event every {EVERY_MS} ms: CPU of the proxy for each event")
    chosen = [peer for peer in PEERS if not peer.missing()]
    for count in (100,) if quick else COUNTS:
        found = {peer.name: measure(peer, count, window_s=1.0 if quick else 5.0) for peer in chosen}
        for name, one in found.items():
            part.broken += [f"{name}: {number} x {what}" for what, number in one.result.broken.items()]
            figures = {"µs": one.us, "events/s": one.rate, "idle %": one.idle, "KiB a stream": one.kib}
            part.rows.append(Row(f"{name}, {count:,} streams", figures if one.complete else {}))
        if not all(one.complete for one in found.values()):
            part.notes.append(f"{count:,} streams: some had ended before all had begun; this machine is too busy")
            continue
        if all(one.idle >= IDLE_SHARE_MIN for one in found.values()):
            break
        part.notes.append(f"{count:,} streams left less than {IDLE_SHARE_MIN:g} % of the machine idle")
    else:
        part.notes.append("this machine is too busy to say more")
        return part
    ours = found[peers.STOKER.name]
    if peers.NGINX_UNBUFFERED.name in found:
        part.bar("CPU beside nginx", ours.us / found[peers.NGINX_UNBUFFERED.name].us, 1.5, f"{count:,} streams")
    part.bar("KiB a stream", ours.kib, 30.0, f"{count:,} streams")
    return part


def measure(peer: Peer, streams: int, *, window_s: float) -> Found:
    """One proxy with so many streams. Raises `Failed` when the load ends before its time."""
    # Time enough for a slow machine: no stream may end before all have begun and the window is over.
    chunks = int((3 * streams / STARTS_PER_S + 6.0 + window_s) * 1_000 / EVERY_MS)
    with tempfile.TemporaryDirectory(prefix="bench") as name, contextlib.ExitStack() as stack:
        folder, worker = Path(name), free_port()
        serving = stack.enter_context(process(python("worker", str(worker)), port=worker, log=folder / "worker.log"))
        proxy = stack.enter_context(peer.start(worker, folder))
        before = memory_bytes(proxy.pid)
        command = python(
            "streams_load", str(proxy.port), peer.target, str(streams), str(chunks), str(EVERY_MS), str(window_s)
        )
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=BENCH) as load:
            assert load.stdout is not None
            first = load.stdout.readline()
            cpu, used = cpu_s(proxy.pid), cpu_s(load.pid) + cpu_s(serving.pid)
            last = load.stdout.readline()
            cpu, used = cpu_s(proxy.pid) - cpu, cpu_s(load.pid) + cpu_s(serving.pid) - used
            kib = (memory_bytes(proxy.pid) - before) / 1024 / streams
            text = load.stdout.read()
        if load.returncode != 0:
            raise Failed(f"the load ended with {load.returncode}")
    (since, _), (till, under_way) = (map(int, mark.split()) for mark in (first, last))
    events = till - since
    idle = 100.0 * (1.0 - (cpu + used) / (window_s * (os.cpu_count() or 1)))
    result = msgspec.json.decode(text, type=Result)
    return Found(1e6 * cpu / max(1, events), idle, events / window_s, kib, under_way == streams, result)

"""What the gateway adds to a request's time: random arrivals at half of what it can serve, beside the worker itself."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from data_plane import peers, unary
from data_plane.answers import PATH
from data_plane.poisson_load import CONNECTIONS
from data_plane.processes import BENCH, free_port, process, python
from data_plane.report import Part, Row
from data_plane.unary_load import Result

_LOAD_S_MAX: Final = 120.0


def run(*, quick: bool) -> Part:
    """The table, with the bars that the gateway is held to."""
    rounds, seconds = (1, 1.0) if quick else (5, 4.0)
    part = Part("poisson", f"arrivals at random, at half of saturation, over at most {CONNECTIONS} connections")
    with tempfile.TemporaryDirectory(prefix="bench") as within, contextlib.ExitStack() as stack:
        folder, worker = Path(within), free_port()
        stack.enter_context(process(python("worker", str(worker)), port=worker, log=folder / "worker.log"))
        proxy = stack.enter_context(peers.stoker(worker, folder))
        ports = {"direct": (worker, PATH), "stoker": (proxy.port, peers.STOKER.target)}
        if not peers.NGINX.missing():
            ports["nginx"] = (stack.enter_context(peers.NGINX.start(worker, folder)).port, PATH)
        full = [unary.ask(proxy.port, peers.STOKER, requests=4_000, connections=CONNECTIONS) for _ in range(1 + rounds)]
        rate = median(result.right / result.wall_s for result in full[1:]) / 2
        found: dict[str, list[Result]] = {name: [] for name in ports}
        for _ in range(rounds):
            for name, (port, target) in ports.items():
                found[name].append(_ask(port, target, rate, seconds))
    for name, results in found.items():
        for result in results:
            part.broken += [f"{name}: {count} x {what}" for what, count in result.wrong.items()]
        p50, p99 = median(result.p50_ms for result in results), median(result.p99_ms for result in results)
        part.rows.append(Row(name, {"requests/s": rate, "p50 ms": p50, "p99 ms": p99}))
    direct, ours = part.rows[:2]
    part.bar("added p50 in ms", ours.figures["p50 ms"] - direct.figures["p50 ms"], 0.5)
    part.bar("added p99 in ms", ours.figures["p99 ms"] - direct.figures["p99 ms"], 5.0)
    return part


def _ask(port: int, target: str, rate: float, seconds: float) -> Result:
    command = python("poisson_load", str(port), target, f"{rate:.1f}", f"{seconds:g}")
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=BENCH, timeout=_LOAD_S_MAX, check=True)
    return msgspec.json.decode(done.stdout, type=Result)

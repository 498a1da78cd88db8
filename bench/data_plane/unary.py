"""CPU of the proxy for each small POST: 32 keep-alive connections, all peers in turns, several rounds."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from data_plane import peers
from data_plane.peers import Peer, Proxy
from data_plane.processes import BENCH, cpu_s, free_port, process, python
from data_plane.report import Part, Row
from data_plane.unary_load import Result

CONNECTIONS: Final = 32
_LOAD_S_MAX: Final = 180.0
PEERS: Final = (
    peers.STOKER,
    peers.NGINX,
    peers.STOKER_TRACED,
    peers.STOKER_V1,
    peers.HAPROXY,
    peers.VLLM,
    peers.SGLANG,
    peers.AIOHTTP,
)


def run(*, quick: bool) -> Part:
    """The table, with the bars that the gateway is held to."""
    rounds, requests = (2, 2_000) if quick else (7, 6_000)
    chosen = [peer for peer in PEERS if not peer.missing()]
    costs: dict[str, list[float]] = {peer.name: [] for peer in chosen}
    walls: dict[str, list[Result]] = {peer.name: [] for peer in chosen}
    with tempfile.TemporaryDirectory(prefix="bench") as name, contextlib.ExitStack() as stack:
        folder, worker = Path(name), free_port()
        stack.enter_context(process(python("worker", str(worker)), port=worker, log=folder / "worker.log"))
        proxies: dict[str, Proxy] = {}
        for peer in chosen:
            within = folder / peer.name.replace(" ", "-")
            within.mkdir()
            proxies[peer.name] = stack.enter_context(peer.start(worker, within))
            ask(proxies[peer.name].port, peer, requests=500)
        for _ in range(rounds):
            for peer in chosen:
                proxy = proxies[peer.name]
                before = cpu_s(proxy.pid)
                result = ask(proxy.port, peer, requests=requests)
                costs[peer.name].append(1e6 * (cpu_s(proxy.pid) - before) / requests)
                walls[peer.name].append(result)
    return _part(chosen, {name: median(cost) for name, cost in costs.items()}, walls)


def ask(port: int, peer: Peer, *, requests: int, connections: int = CONNECTIONS) -> Result:
    """One run of the load, in a process of its own."""
    command = python("unary_load", str(port), peer.target, str(connections), str(requests))
    if peer.traced:
        command.append("--traced")
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=BENCH, timeout=_LOAD_S_MAX, check=True)
    return msgspec.json.decode(done.stdout, type=Result)


def _part(chosen: list[Peer], costs: dict[str, float], walls: dict[str, list[Result]]) -> Part:
    part = Part("unary", f"{CONNECTIONS} connections, small POSTs: CPU of the proxy for each")
    nginx = costs.get("nginx")
    routers = [costs[name] for name in ("vllm-router", "sglang-router") if name in costs]
    for peer in chosen:
        found = walls[peer.name]
        rate = median(result.right / result.wall_s for result in found)
        p99 = median(result.p99_ms for result in found)
        figures = {"µs": costs[peer.name], "requests/s": rate, "p99 ms": p99}
        if nginx is not None:
            figures["x nginx"] = costs[peer.name] / nginx
        if routers:
            figures["x router"] = costs[peer.name] / min(routers)
        part.rows.append(Row(peer.name, figures))
        for result in found:
            for what, count in result.wrong.items():
                part.broken.append(f"{peer.name}: {count} x {what}")
    ours = costs.get("stoker")
    if ours is not None:
        for other, bar, aim in (("nginx", 1.3, "aim 1.0"), ("router", 0.6, ""), ("aiohttp proxy", 0.25, "")):
            cost = min(routers, default=None) if other == "router" else costs.get(other)
            if cost is not None:
                part.bar(
                    f"CPU beside {'the better Rust router' if other == 'router' else other}", ours / cost, bar, aim
                )
    return part

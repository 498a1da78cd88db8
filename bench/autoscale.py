"""Does the simulation tell what a run costs? `python bench/autoscale.py TRACE [--seconds 600] [--every 40] [--json]`.

TRACE: arrivals as in `stoker simulate`. Every so many of its requests go, at the times that it says, through a real
`stoker up` to a small model under llama.cpp, with answers of up to 32 tokens, to an endpoint that `auto` scales. What a
start and each request took in that run is the profile of the simulation of the same arrivals by the same policy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from acceptance.installation import Installation
from stoker.domain.endpoint import EndpointId, ScaleBounds
from stoker.domain.scaling import Auto, ScalingPolicy
from stoker.domain.usage import RequestFact
from stoker.simulate.compare import Comparison, share_within
from stoker.simulate.rules.own import Own
from stoker.simulate.trace import Profile, Trace, read_trace, requests_of
from stoker.telemetry.segments import Segments

TOKENS_MAX = 32
WORKERS_MAX = 4
# A small model starts within seconds, and so it should matter.
AUTO = Auto(late_cost=20.0, wait_target_s=1.0)
COST_BAR, IN_TIME_BAR = 0.10, 0.03


@dataclass(frozen=True, slots=True)
class Live:
    """What was seen: requests as they were recorded, seconds that starts took, seconds of workers."""

    facts: tuple[RequestFact, ...]
    starts_s: tuple[float, ...]
    cost_s: float
    cpu: float


class FromZero(Own):
    """The policy, without a worker at the beginning."""

    initial = 0


def arrivals_of(path: Path, *, every: int, seconds: float) -> list[float]:
    """When requests come, in seconds from the first."""
    times = sorted(at for endpoint in read_trace(path).endpoints for at in endpoint.arrivals)[::every]
    return [at - times[0] for at in times if at - times[0] < seconds]


async def send(stoker: Installation, arrivals: list[float]) -> float:
    """All requests, each at its time. The share of this machine's CPUs that was busy."""
    url = f"http://127.0.0.1:{stoker.port}/e/model/v1/completions"
    headers = {"Authorization": f"Bearer {stoker.key}"}
    psutil.cpu_percent()
    began = time.monotonic()
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(120)) as session:

        async def one(number: int, at: float) -> None:
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            body = {"prompt": f"Story number {number} begins like this:", "max_tokens": TOKENS_MAX}
            async with session.post(url, json=body) as answer:
                await answer.read()
                assert answer.status == 200, answer.status

        async with asyncio.TaskGroup() as group:
            for number, at in enumerate(arrivals):
                group.create_task(one(number, at))
    return psutil.cpu_percent() / 100


def live(arrivals: list[float]) -> Live:
    """The run, on an installation of its own."""
    with tempfile.TemporaryDirectory() as folder:
        stoker = Installation(Path(folder) / "data")
        try:
            stoker.up()
            auto = {"type": "auto", "late_cost": AUTO.late_cost, "wait_target_s": AUTO.wait_target_s}
            made = stoker.api(
                "POST",
                "/endpoints",
                {
                    "name": "model",
                    "launch": {"model": "smollm2", "parameters": ["--threads=1"]},
                    "pools": [{"bounds": {"min": 0, "max": WORKERS_MAX}}],
                    "slots": 1,
                    "scaling": {"triggers": [auto]},
                },
            )["endpoint"]
            busy = asyncio.run(send(stoker, arrivals))
            ended = time.time()
            workers = stoker.api("GET", "/endpoints/model/workers")["items"]
            # What was told of requests is on disk some seconds later.
            time.sleep(15)
            stoker.api("POST", "/endpoints/model:stop")
            stoker.interrupt()
            folder_of = Path(folder) / "data" / "requests"
            segments = Segments(folder_of, bytes_max=2**30, total_bytes_max=2**30, kept_s=86_400.0)
            facts = tuple(segments.read(EndpointId(made["id"])))
        finally:
            stoker.close()
    return Live(facts, *costs(workers, ended), busy)


def costs(workers: list[dict[str, Any]], ended: float) -> tuple[tuple[float, ...], float]:
    """Seconds that starts took, and seconds of all workers until then."""

    def at(worker: dict[str, Any], name: str) -> float | None:
        return None if worker[name] is None else datetime.fromisoformat(worker[name]).timestamp()

    starts, cost_s = [], 0.0
    for worker in workers:
        started, ready = at(worker, "started_at"), at(worker, "ready_at")
        if started is None:
            continue
        cost_s += min(at(worker, "ended_at") or ended, ended) - started
        starts += [] if ready is None else [ready - started]
    return tuple(starts), cost_s


def predicted(run: Live, seeds: int) -> tuple[list[float], list[float]]:
    """Costs and shares in time by the simulation, on what was measured in the run."""
    first = run.facts[0].at
    rows = [(f.at - first, f.prompt_tokens or 0, f.completion_tokens or 0, f.service_s) for f in run.facts]
    spread = statistics.pstdev([s / statistics.median(run.starts_s) for s in run.starts_s])
    profile = Profile(
        slots=1,
        start_s=statistics.median(run.starts_s),
        sigma=spread,
        workers_max=WORKERS_MAX,
        wait_target_s=AUTO.wait_target_s,
    )
    trace = Trace("live", (requests_of("model", rows),))
    policy = ScalingPolicy(triggers=(AUTO,))
    results = [
        Comparison(trace, profile, seed=seed).result(
            "auto", make=lambda a, s, p, k: FromZero(p, policy, ScaleBounds(max=WORKERS_MAX))
        )
        for seed in range(seeds)
    ]
    return [r.gpu_s for r in results], [r.in_time for r in results]


def main() -> None:
    """Run, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--every", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    run = live(arrivals_of(options.trace, every=options.every, seconds=options.seconds))
    cost, shares = predicted(run, seeds=5)
    found: dict[str, Any] = {
        "requests": len(run.facts),
        "cpu": run.cpu,
        "start_s": statistics.median(run.starts_s),
        "service_s": statistics.fmean(f.service_s for f in run.facts if f.service_s is not None),
        "starts": len(run.starts_s),
        "live": {"worker_s": run.cost_s, "in_time": share_within([f.wait_s for f in run.facts], AUTO.wait_target_s)},
        "simulated": {"worker_s": statistics.fmean(cost), "in_time": statistics.fmean(shares)},
    }
    found["cost_off"] = found["live"]["worker_s"] / found["simulated"]["worker_s"] - 1
    found["in_time_off"] = found["live"]["in_time"] - found["simulated"]["in_time"]
    found["within_bars"] = abs(found["cost_off"]) <= COST_BAR and abs(found["in_time_off"]) <= IN_TIME_BAR
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if options.json else text(found))


def text(found: dict[str, Any]) -> str:
    """As lines."""
    rows = [("", "worker-seconds", f"waited at most {AUTO.wait_target_s:g} s")]
    rows += [
        (name, f"{found[name]['worker_s']:.0f}", f"{found[name]['in_time']:.1%}") for name in ("live", "simulated")
    ]
    rows += [
        ("off by (bars: 10 %, 3 points)", f"{found['cost_off']:+.1%}", f"{100 * found['in_time_off']:+.1f} points")
    ]
    head = (
        f"{found['requests']} requests of {found['service_s']:.2f} s, {found['starts']} starts of"
        f" {found['start_s']:.2f} s, CPUs {found['cpu']:.0%} busy\n"
    )
    return head + "".join(f"{name:32}{cost:>16}{share:>24}\n" for name, cost, share in rows)


if __name__ == "__main__":
    main()

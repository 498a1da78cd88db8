"""A fleet on the real control: `python bench/autoscale_fleet.py TRACE [--endpoints 1000] [--hours 24] [--json]`.

The endpoints of TRACE again and again, each time moved in time, on the fake provider and virtual time: what control's
own code takes for decisions, passes and the store. `--profile` prints where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import heapq
import json
import math
import pstats
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from simulation import fleet, virtual
from simulation.world import world
from stoker.simulate.trace import PROFILES, Requests, Trace, read_trace
from stoker.starting import settle_garbage

DAY_S = 86_400.0


def moved(requests: Requests, number: int, by: float, *, length: float, until: float) -> Iterator[fleet.Arrival]:
    """The requests of one endpoint in a trace of whole days, begun `by` seconds into it and going round, as far as they
    come before `until`.
    """
    services = PROFILES["A"].services(requests)
    pairs = sorted(((at - by) % length, service_s) for at, service_s in zip(requests.arrivals, services, strict=True))
    yield from ((at, number, service_s) for at, service_s in pairs if at < until)


def arrivals_of(trace: Trace, *, endpoints: int, until: float) -> Iterator[fleet.Arrival]:
    """Of all endpoints, in the order of time."""
    known = trace.endpoints
    last = max(at for requests in known for at in requests.arrivals)
    length = math.ceil((last + 1.0) / DAY_S) * DAY_S
    # All over the trace, so that no two copies of one endpoint fall together.
    step = length / math.ceil(endpoints / len(known))
    parts = [
        moved(known[n % len(known)], n, (n // len(known)) * step, length=length, until=until) for n in range(endpoints)
    ]
    return heapq.merge(*parts)


def main() -> None:
    """Run it, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--endpoints", type=int, default=1_000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    arrivals = arrivals_of(read_trace(options.trace), endpoints=options.endpoints, until=3_600.0 * options.hours)

    def told(count: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{count:,} requests")

    async def whole() -> fleet.Outcome:
        async with world() as w:
            return await fleet.run(w, arrivals, endpoints=options.endpoints, told=told)

    settle_garbage()
    profile = cProfile.Profile()
    began, cpu = time.perf_counter(), time.process_time()
    found = profile.runcall(virtual.run, whole()) if options.profile else virtual.run(whole())
    took = {"wall_s": round(time.perf_counter() - began, 1), "cpu_s": round(time.process_time() - cpu, 1)}
    memory = {"resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    document = asdict(found) | took | memory
    if options.profile:
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(40)
    sys.stdout.write(
        json.dumps(document, indent=2) + "\n"
        if options.json
        else "".join(f"{name:14} {value}\n" for name, value in document.items())
    )


if __name__ == "__main__":
    main()

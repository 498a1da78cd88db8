"""A fleet on the real control: `python bench/autoscale_fleet.py [TRACE] [--endpoints 1000] [--hours 24] [--json]`.

The endpoints of TRACE (default: the sparse fleet among the examples) again and again, each time moved in time, on the
fake provider and virtual time: what control's own code takes for decisions, passes and the store. `--profile` prints
where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from simulation import fleet, virtual
from simulation.world import world
from stoker.simulate.trace import read_trace
from stoker.starting import settle_garbage

TRACE = Path(__file__).parent.parent / "examples" / "traces" / "sparse_fleet.csv.gz"


def main() -> None:
    """Run it, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path, nargs="?", default=TRACE)
    parser.add_argument("--endpoints", type=int, default=1_000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    arrivals = fleet.copies(read_trace(options.trace), endpoints=options.endpoints, until=3_600.0 * options.hours)

    def told(count: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{count:,} requests")

    async def whole() -> fleet.Outcome:
        async with world() as w:
            return await fleet.run(w, arrivals, endpoints=options.endpoints, told=told)

    settle_garbage()
    profile = cProfile.Profile()
    began, cpu = time.perf_counter(), time.process_time()
    forever = float("inf")
    if options.profile:
        found = profile.runcall(virtual.run, whole(), real_s_max=forever)
    else:
        found = virtual.run(whole(), real_s_max=forever)
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

"""What control costs: `python bench/control.py`, beside its bars. All on the fake provider, with real processes.

`--parts` chooses: `start` (`stoker up` to ready), `fleet` (1,000 endpoints with 10,000 workers: memory, passes, idle
cost), `creates` (through the gateway and the API), `grow` (from no worker to all of them). `--quick` is a tenth of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import postgres

HERE = Path(__file__).parent
PARTS = ("start", "fleet", "creates", "grow")
Found = dict[str, Any]
# What was measured, in words; the figure with its unit; the bar, where there is one.
Row = tuple[str, str, str]


def child(script: str, *arguments: str) -> Found:
    """What a script of this folder prints."""
    command = [sys.executable, str(HERE / f"{script}.py"), *arguments]
    found: Found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def start(options: argparse.Namespace, database: list[str]) -> Found:
    """`stoker up`, always on SQLite."""
    return child("control_start", "up", "--rounds", "1" if options.quick else "3")


def fleet(options: argparse.Namespace, database: list[str]) -> Found:
    """A fleet that is ready."""
    size = ["--endpoints", "100", "--workers", "1000", "--idle-s", "3"] if options.quick else []
    return child("control_fleet", "loaded", *size, *database)


def grow(options: argparse.Namespace, database: list[str]) -> Found:
    """A fleet that starts."""
    return child(
        "control_fleet", "grown", *(["--endpoints", "100", "--workers", "1000"] if options.quick else []), *database
    )


def creates(options: argparse.Namespace, database: list[str]) -> Found:
    """Endpoints without a worker, and with one each."""
    size = ["--creates", "200" if options.quick else "2000", *database]
    return {f"min {low}": child("control_creates", "clients", "--min", str(low), *size) for low in (0, 1)}


def start_rows(found: Found) -> Iterator[Row]:
    """Two tables: what the command says, and where control spends its part."""
    for which in ("fresh", "again"):
        for what, at in found[which].items():
            yield f"stoker up, {which}: {what}", f"{at:.2f} s", "< 2 s" if what == "ready" else ""
    for which in ("phases, fresh", "phases, again"):
        for what, took in found[which].items():
            yield f"{which}: {what}", f"{1e3 * took:.0f} ms", ""


def fleet_rows(found: Found) -> Iterator[Row]:
    """Passes, idle cost, memory."""
    each = found["pass"]
    yield "a pass over all", f"{each['wall_s']:.2f} s, {each['cpu_s']:.2f} s CPU", "< 1 s"
    for step, share in each["shares"].items():
        yield f"  {step}", f"{100 * share:.0f} %", ""
    yield "idle", f"{100 * found['idle_cpu']:.1f} % of a core", ""
    yield "resident", f"{found['resident_without_provider_mib']:.0f} MiB", "< 200 MiB"
    for part, mib in found["memory_mib"].items():
        yield f"  {part}", f"{mib:.1f} MiB", ""
    for phase, took in found["start_s"].items():
        yield f"start with it: {phase}", f"{took:.2f} s", ""


def creates_rows(found: Found) -> Iterator[Row]:
    """Rate, CPU of control, times."""
    for which, each in found.items():
        yield f"creates, {which}", f"{each['per_s']:.0f} /s", "200 /s"
        yield "  CPU of control for each", f"{each['cpu_ms_each']:.1f} ms", "< 5 ms"
        yield "  p50, p99", f"{each['p50_ms']:.0f} ms, {each['p99_ms']:.0f} ms", ""
        if each["min"]:
            yield "  all workers ready after", f"{each['all_ready_s']:.1f} s", ""
            yield "  CPU of control for each, until then", f"{each['cpu_ms_each_until_ready']:.1f} ms", ""


def grow_rows(found: Found) -> Iterator[Row]:
    """Until everything is ready."""
    each, workers = found["grow"], found["workers"]
    yield f"0 -> {workers:,} workers ready", f"{each['wall_s']:.1f} s, {each['cpu_s']:.1f} s CPU", ""
    yield "  CPU for each worker", f"{1e3 * each['cpu_s'] / workers:.2f} ms", ""


MEASURE: dict[str, Callable[[argparse.Namespace, list[str]], Found]] = {
    "start": start,
    "fleet": fleet,
    "creates": creates,
    "grow": grow,
}
ROWS = {"start": start_rows, "fleet": fleet_rows, "creates": creates_rows, "grow": grow_rows}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL of its own instead of SQLite")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: Found = {}
    for part in options.parts:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(postgres.server(durable=True)) if options.postgres else None
            found[part] = MEASURE[part](options, [] if server is None else ["--database", server.database()])
        if not options.json:
            for what, figure, bar in ROWS[part](found[part]):
                sys.stdout.write(f"{what:52}{figure:>26}  {bar}\n")
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

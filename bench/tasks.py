"""Queue mode beside its peers and its bars, part by part: `python bench/tasks.py [--parts rates latency …]`.

Not called `queue.py`: a module of that name in this folder would hide the standard library's from all benchmarks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import msgspec
from data_plane.processes import describe_machine
from task_queue import kills, latency, million, rates

PARTS = {
    "rates": rates.run,
    "latency": latency.run,
    "million-sqlite": million.run_sqlite,
    "million-postgres": million.run_postgres,
    "kills": kills.run,
}


def main() -> int:
    """Run what was asked for. The exit status: 1 when a task or a webhook was lost, whatever the figures say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="less of everything: does it work at all?")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    options = parser.parse_args()
    found = []
    for name in options.parts:
        part = PARTS[name](quick=options.quick)
        found.append(part)
        if not options.json:
            sys.stdout.write(part.to_text() + "\n")
            sys.stdout.flush()
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode({"machine": describe_machine(), "parts": found}) + b"\n")
    else:
        sys.stdout.write(f"on {describe_machine()}\n")
    return 1 if any(part.broken for part in found) else 0


if __name__ == "__main__":
    sys.exit(main())

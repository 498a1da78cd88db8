"""The gateway beside its peers, part by part: `python bench/gateway.py [unary|streams|poisson|idle|chaos]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import msgspec
from data_plane import chaos, idle, poisson, streams, unary
from data_plane.processes import describe_machine, raise_descriptors

PARTS = {"unary": unary.run, "streams": streams.run, "poisson": poisson.run, "idle": idle.run, "chaos": chaos.run}


def main() -> int:
    """Run what was asked for. The exit status: 1 when something was lost or broken, whatever the figures say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="which parts; all of them by default")
    parser.add_argument("--quick", action="store_true", help="less of everything: does it work at all?")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    options = parser.parse_args()
    raise_descriptors()
    found = []
    for name in options.parts or PARTS:
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

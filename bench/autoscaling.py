"""Policies on the five reference traces, beside the figures that others found: `python bench/autoscaling.py FOLDER`.

FOLDER has the traces. A cell: cost over the zero-wait bound, share of requests that wait at most 5 s, p99 wait, starts,
flaps; behind the reference a mark where cost differs by more than 5 % or attainment by more than 2 points.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from stoker.simulate.compare import Comparison, Result
from stoker.simulate.trace import PROFILES, read_trace

TRACES = {
    "azure2023_code": "A",
    "azure2023_conv": "A",
    "servegen_mlarge_diurnal": "C",
    "servegen_r1_longgen": "B",
    "servegen_sparse_fleet": "A",
}
# Cost over the bound and attainment in per cent, in the order of the traces.
REFERENCE: dict[str, tuple[tuple[float, float], ...]] = {
    "static-peak": ((3.53, 100.0), (1.22, 100.0), (6.43, 100.0), (3.42, 100.0), (57.04, 100.0)),
    "clairvoyant": ((1.42, 99.2), (1.08, 100.0), (1.19, 100.0), (1.13, 99.9), (1.46, 99.6)),
    "kpa": ((4.80, 69.0), (1.08, 98.7), (1.78, 84.7), (1.17, 88.4), (1.62, 71.7)),
    "hpa-keda": ((1.94, 94.8), (2.05, 97.8), (1.51, 99.1), (1.44, 98.8), (2.49, 86.7)),
    "runpod-delay": ((3.18, 50.4), (1.00, 85.1), (1.43, 72.9), (1.01, 69.1), (1.00, 43.2)),
    "runpod-count": ((2.95, 63.7), (1.11, 94.3), (1.46, 79.2), (1.04, 72.8), (1.04, 46.0)),
    "keepalive": ((3.88, 76.5), (1.07, 98.6), (1.28, 93.9), (1.07, 86.6), (1.44, 72.1)),
    "vast": ((0.87, 45.3), (0.89, 97.7), (1.19, 78.5), (2.10, 78.1), (1.36, 61.9)),
    "ray-serve": ((1.29, 97.7), (1.71, 97.8), (1.85, 96.8), (1.47, 96.9), (2.63, 90.4)),
    "skyserve": ((0.24, 23.2), (0.86, 48.4), (0.76, 79.1), (1.26, 84.1), (2.66, 75.3)),
}


def cell(result: Result) -> str:
    """One policy on one trace."""
    return (
        f"x{result.ratio:.2f} / {100 * result.attainment_5s:.1f} % / {result.wait_p99_s:.0f} s"
        f" / {result.starts} / {result.flaps}"
    )


def beside(result: Result, reference: tuple[float, float]) -> str:
    """The reference, marked where the result is not within 5 % of its cost and 2 points of its attainment."""
    cost, attainment = reference
    close = abs(result.ratio / cost - 1) <= 0.05 and abs(100 * result.attainment_5s - attainment) <= 2.0
    return f"x{cost:.2f} / {attainment:.1f} %{'' if close else '  DIFFERS'}"


def main() -> None:
    """Print all cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--policy", default=",".join(("concurrency", *REFERENCE)))
    parser.add_argument("--trace", default=",".join(TRACES))
    options = parser.parse_args()
    for index, (name, profile) in enumerate(TRACES.items()):
        if name not in options.trace.split(","):
            continue
        comparison = Comparison(read_trace(options.folder / f"{name}.csv.gz"), PROFILES[profile])
        for policy in options.policy.split(","):
            began = time.perf_counter()
            result = comparison.result(policy)
            took_s = time.perf_counter() - began
            reference = beside(result, REFERENCE[policy][index]) if policy in REFERENCE else ""
            sys.stdout.write(f"{name:24} {policy:13} {cell(result):45} {reference:32} {took_s:.1f} s\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

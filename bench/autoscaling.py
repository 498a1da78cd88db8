"""Policies on the five reference traces, beside the figures that others found: `python bench/autoscaling.py FOLDER`.

FOLDER has the traces. A cell: cost over the zero-wait bound, share of requests that wait at most 5 s, p99 wait, starts,
flaps; behind the reference a mark where cost differs by more than 5 % or attainment by more than 2 points.

`--sweep`: instead, every baseline with every utilisation and memory, on all traces: which of them is the cheapest with
a mean share in time as high as that of `auto`? One that cannot be any more is left there. `--jobs` processes.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from stoker.simulate.compare import Comparison, Result
from stoker.simulate.policies import Knobs, sweep
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


# The quick ones first: most settings are out before the slow ones.
ORDER = (
    "azure2023_code",
    "azure2023_conv",
    "servegen_r1_longgen",
    "servegen_mlarge_diurnal",
    "servegen_sparse_fleet",
)
# Policies whose only knob is the memory have no utilisation.
USED = (None, 0.5, 0.6, 0.7, 0.8, 0.9)
BASELINES = ("keepalive", "ray-serve", "hpa-keda", "runpod-count", "runpod-delay", "vast", "skyserve", "kpa")


@dataclass(frozen=True, slots=True)
class Total:
    """One setting on all traces. `in_time` is `None` where it was left."""

    name: str
    cost: float
    in_time: float | None

    def __str__(self) -> str:
        return f"{self.name:40} x{self.cost:.3f} " + (
            "cannot be as good" if self.in_time is None else f"{100 * self.in_time:.2f} %"
        )


_comparisons: dict[str, Comparison] = {}


def total(folder: Path, policy: str, knobs: Knobs, least: float) -> Total:
    """The setting's geometric mean of costs and mean of shares in time, or that it cannot reach the `least`."""
    logs, shares = 0.0, 0.0
    name = f"{policy}({knobs})" if knobs.given() else policy
    for done, trace in enumerate(ORDER, 1):
        if trace not in _comparisons:
            _comparisons[trace] = Comparison(read_trace(folder / f"{trace}.csv.gz"), PROFILES[TRACES[trace]])
        result = _comparisons[trace].result(policy, knobs)
        logs += math.log(result.ratio)
        shares += result.attainment_5s
        if shares + len(ORDER) - done < least * len(ORDER):
            return Total(name, math.exp(logs / done), None)
    return Total(name, math.exp(logs / len(ORDER)), shares / len(ORDER))


def swept(folder: Path, policies: list[str], jobs: int) -> None:
    """Print every setting that gets through, and the cheapest of them beside `auto`."""
    ours = total(folder, "auto", Knobs(), 0.0)
    least = ours.in_time or 0.0
    sys.stdout.write(f"{ours}\n")
    settings = [(policy, knobs) for policy in policies for knobs in sweep(policy) if knobs.utilisation in USED]
    found: list[Total] = []
    with ProcessPoolExecutor(jobs, initializer=os.nice, initargs=(10,)) as pool:
        runs = [pool.submit(total, folder, policy, knobs, least) for policy, knobs in settings]
        for run in as_completed(runs):
            each = run.result()
            sys.stdout.write(f"{each}\n")
            sys.stdout.flush()
            found += [each] if each.in_time is not None else []
    sys.stdout.write(f"{len(settings)} settings, {len(found)} as good as auto\n")
    if found:
        best = min(found, key=lambda each: each.cost)
        sys.stdout.write(f"the cheapest of them: {best}; auto is {100 * (1 - ours.cost / best.cost):.1f} % cheaper\n")


def main() -> None:
    """Print all cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--policy", default=",".join(("concurrency", *REFERENCE)))
    parser.add_argument("--trace", default=",".join(TRACES))
    parser.add_argument("--cold", action="store_true", help="with cold workers, which `auto` alone makes use of")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.sweep:
        chosen = options.policy.split(",")
        swept(options.folder, [each for each in BASELINES if each in chosen], options.jobs)
        return
    for index, (name, profile) in enumerate(TRACES.items()):
        if name not in options.trace.split(","):
            continue
        hardware = replace(PROFILES[profile], cold=options.cold)
        comparison = Comparison(read_trace(options.folder / f"{name}.csv.gz"), hardware)
        for policy in options.policy.split(","):
            began = time.perf_counter()
            result = comparison.result(policy)
            took_s = time.perf_counter() - began
            reference = beside(result, REFERENCE[policy][index]) if policy in REFERENCE else ""
            sys.stdout.write(f"{name:24} {policy:13} {cell(result):45} {reference:32} {took_s:.1f} s\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

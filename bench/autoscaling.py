"""Policies on the five reference traces and on traffic of other kinds: `python bench/autoscaling.py FOLDER`.

FOLDER has the traces. Without more it prints each policy's cell beside the figures that others found for the same rule:
cost over the zero-wait bound, share of requests that wait at most 5 s, p99 wait, starts, flaps; and whether the cell is
within 5 % of the cost and 2 points of the share.

`--seeds 0,1,2`: is any baseline at its defaults cheaper than `auto` and better? `--held-out`: the same on traffic drawn
by `held_out`. `--sweep`: see `autoscaling_sweep`. `--phases`: the HPA by the second in which its period begins.
`--speed`: how long an hour of 10,000 requests takes. `--cold`: with cold workers, which `auto` alone makes use of.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import held_out
from autoscaling_sweep import BASELINES, swept

from stoker.simulate.compare import Comparison, Result
from stoker.simulate.policies import POLICIES, Make
from stoker.simulate.rules.kubernetes import HpaKeda
from stoker.simulate.trace import PROFILES, Trace, read_trace, requests_of

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
COST_OFF, POINTS_OFF = 0.05, 2.0


def say(line: str) -> None:
    """At once, for whoever follows it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def cell(result: Result) -> str:
    """One policy on one trace."""
    return (
        f"x{result.ratio:.2f} / {100 * result.attainment_5s:.1f} % / {result.wait_p99_s:.0f} s"
        f" / {result.starts} / {result.flaps}"
    )


def beside(result: Result, reference: tuple[float, float]) -> tuple[str, bool]:
    """The reference, how far the result is from it, and whether that is close."""
    cost, attainment = reference
    off, points = result.ratio / cost - 1, 100 * result.attainment_5s - attainment
    close = abs(off) <= COST_OFF and abs(points) <= POINTS_OFF
    return f"x{cost:.2f} / {attainment:.1f} % {100 * off:+6.1f} % {points:+5.1f}  {'pass' if close else 'FAIL'}", close


def of_folder(folder: Path, names: list[str], *, cold: bool = False, seed: int = 0) -> Iterator[tuple[str, Comparison]]:
    """The traces, each on its profile."""
    for name, profile in TRACES.items():
        if name in names:
            hardware = replace(PROFILES[profile], cold=cold)
            yield name, Comparison(read_trace(folder / f"{name}.csv.gz"), hardware, seed=seed)


def table(folder: Path, policies: list[str], names: list[str], *, cold: bool) -> None:
    """All cells, and how many of those with a reference are close."""
    passed: list[bool] = []
    for name, comparison in of_folder(folder, names, cold=cold):
        for policy in policies:
            began = time.perf_counter()
            result = comparison.result(policy)
            took_s = time.perf_counter() - began
            text = ""
            if policy in REFERENCE and not cold:
                text, close = beside(result, REFERENCE[policy][list(TRACES).index(name)])
                passed.append(close)
            say(f"{name:24} {policy:13} {cell(result):45} {text:42} {took_s:.1f} s")
    if passed:
        say(f"{sum(passed)} of {len(passed)} cells pass")


def verdict(name: str, seed: int, comparison: Comparison, policies: list[str]) -> tuple[str, float, float]:
    """`auto` beside every baseline: those that are cheaper and better. Its cost and share in time."""
    ours = comparison.result("auto")
    others = [comparison.result(policy) for policy in policies]
    better = [r for r in others if r.gpu_s < ours.gpu_s and r.attainment_5s > ours.attainment_5s]
    told = ", ".join(f"{r.policy} x{r.ratio:.2f} / {100 * r.attainment_5s:.1f} %" for r in better)
    cells = " ".join(f"{r.policy} {r.ratio:.2f}/{100 * r.attainment_5s:.1f}" for r in others)
    line = f"{name:24} seed {seed}  auto x{ours.ratio:.2f} / {100 * ours.attainment_5s:.1f} %"
    return (
        f"{line:62} {f'DOMINATED by {told}' if better else 'not dominated':50} {cells}",
        ours.ratio,
        ours.attainment_5s,
    )


def _of_trace(folder: Path, name: str, seed: int, policies: list[str]) -> tuple[str, float, float]:
    [(_, comparison)] = of_folder(folder, [name], seed=seed)
    return verdict(name, seed, comparison, policies)


def _of_kind(kind: str, size: str, seed: int, policies: list[str]) -> tuple[str, float, float]:
    drawn = held_out.trace(kind, size, seed)
    return verdict(drawn.name, seed, Comparison(drawn, PROFILES[held_out.KINDS[kind][1]], seed=seed), policies)


def verdicts(folder: Path | None, names: list[str], seeds: list[int], policies: list[str], jobs: int) -> None:
    """For each seed; of the means those of `auto`."""
    others = [each for each in policies if each in BASELINES or each == "static-peak"]
    with ProcessPoolExecutor(jobs, initializer=os.nice, initargs=(5,)) as pool:
        if folder is not None:
            order = [(seed, name) for seed in seeds for name in names]
            runs = [pool.submit(_of_trace, folder, name, seed, others) for seed, name in order]
        else:
            order = [(seed, kind) for kind in held_out.KINDS for _ in held_out.SIZES for seed in seeds]
            kinds = [(kind, size, seed) for kind in held_out.KINDS for size in held_out.SIZES for seed in seeds]
            runs = [pool.submit(_of_kind, *each, others) for each in kinds]
        found: dict[int, list[tuple[float, float]]] = {}
        for (seed, _), run in zip(order, runs, strict=True):
            line, ratio, share = run.result()
            say(line)
            found.setdefault(seed, []).append((ratio, share))
    for seed, each in found.items():
        cost = math.exp(sum(math.log(ratio) for ratio, _ in each) / len(each))
        say(
            f"auto, seed {seed}: x{cost:.3f} (geometric mean), {100 * sum(s for _, s in each) / len(each):.2f} % (mean)"
        )


def _beginning(phase: int) -> Make:
    return lambda arrivals, services, profile, knobs: HpaKeda(phase_s=float(phase))


def phases(folder: Path, names: list[str]) -> None:
    """The HPA by when its period of 15 s begins, which nobody can choose."""
    for name, comparison in of_folder(folder, names):
        for phase in range(15):
            result = comparison.result("hpa-keda", make=_beginning(phase))
            say(f"{name:24} begins at {phase:2} s  {cell(result)}")


def speed() -> None:
    """An hour of 10,000 requests, steady and in bursts."""
    draw = random.Random(1)
    even = sorted(draw.uniform(0.0, 3_600.0) for _ in range(10_000))
    begins = [draw.uniform(0.0, 3_500.0) for _ in range(12)]
    bursts = sorted(draw.choice(begins) + draw.expovariate(1 / 30.0) for _ in range(10_000))
    for name, times in (("steady", even), ("bursts", bursts)):
        rows = [(at, draw.randint(10, 4_000), draw.randint(1, 400)) for at in times]
        comparison = Comparison(Trace(name, (requests_of("", rows),)), PROFILES["A"])
        for policy in POLICIES:
            began = time.process_time()
            comparison.result(policy)
            say(f"{name:8} {policy:13} {time.process_time() - began:.2f} s of CPU")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--policy", default=",".join((*REFERENCE, "concurrency", "auto")))
    parser.add_argument("--trace", default=",".join(TRACES))
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--seeds", type=lambda text: [int(each) for each in text.split(",")])
    for mode in ("--held-out", "--sweep", "--whole", "--phases", "--speed"):
        parser.add_argument(mode, action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    it = parser.parse_args()
    policies, names = it.policy.split(","), it.trace.split(",")
    if it.speed:
        speed()
    elif it.held_out:
        verdicts(None, [], it.seeds or [0], policies, it.jobs)
    elif it.folder is None:
        parser.error("say the folder of the traces")
    elif it.sweep:
        swept(it.folder, policies, jobs=it.jobs, whole=it.whole)
    elif it.phases:
        phases(it.folder, names)
    elif it.seeds:
        verdicts(it.folder, [name for name in TRACES if name in names], it.seeds, policies, it.jobs)
    else:
        table(it.folder, policies, names, cold=it.cold)


if __name__ == "__main__":
    main()

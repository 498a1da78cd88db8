"""Every baseline with every utilisation and memory, on all traces: `python bench/autoscaling.py FOLDER --sweep`.

Which of them is the cheapest with a mean share in time as high as that of `auto`? With `least` one that cannot be any
more is left there.
"""

from __future__ import annotations

import math
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from stoker.simulate.compare import Comparison
from stoker.simulate.policies import Knobs, sweep
from stoker.simulate.trace import PROFILES, read_trace

# The quick ones first: most settings are out before the slow ones.
ORDER = {
    "azure2023_code": "A",
    "azure2023_conv": "A",
    "servegen_r1_longgen": "B",
    "servegen_mlarge_diurnal": "C",
    "servegen_sparse_fleet": "A",
}
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
    for done, (trace, profile) in enumerate(ORDER.items(), 1):
        if trace not in _comparisons:
            _comparisons[trace] = Comparison(read_trace(folder / f"{trace}.csv.gz"), PROFILES[profile])
        result = _comparisons[trace].result(policy, knobs)
        logs += math.log(result.ratio)
        shares += result.attainment_5s
        if shares + len(ORDER) - done < least * len(ORDER):
            return Total(name, math.exp(logs / done), None)
    return Total(name, math.exp(logs / len(ORDER)), shares / len(ORDER))


def swept(folder: Path, policies: list[str], *, jobs: int, whole: bool) -> None:
    """Print every setting that gets through, or all with `whole`, and the cheapest of them beside `auto`."""
    ours = total(folder, "auto", Knobs(), 0.0)
    least = ours.in_time or 0.0
    sys.stdout.write(f"{ours}\n")
    chosen = [each for each in BASELINES if each in policies]
    settings = [(policy, knobs) for policy in chosen for knobs in sweep(policy) if knobs.utilisation in USED]
    found: list[Total] = []
    with ProcessPoolExecutor(jobs, initializer=os.nice, initargs=(10,)) as pool:
        runs = [pool.submit(total, folder, policy, knobs, 0.0 if whole else least) for policy, knobs in settings]
        for run in as_completed(runs):
            each = run.result()
            sys.stdout.write(f"{each}\n")
            sys.stdout.flush()
            found += [each] if each.in_time is not None and each.in_time >= least else []
    sys.stdout.write(f"{len(settings)} settings, {len(found)} as good as auto\n")
    if found:
        best = min(found, key=lambda each: each.cost)
        sys.stdout.write(f"the cheapest of them: {best}; auto is {100 * (1 - ours.cost / best.cost):.1f} % cheaper\n")

"""Reads the few numbers that Stoker wants out of an engine's Prometheus page. Pure; used by control's measuring."""

from __future__ import annotations

import math
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from stoker.engines.base import Metric

# Lines of wanted metrics; a page with more is not one of an engine's.
LINES_MAX = 2_000


def values_of(page: str, wanted: Mapping[str, Metric]) -> dict[str, float]:
    """The wanted values that the page has, summed up (or the highest of them) over their labels. Raises `ValueError`
    for a page that is none.
    """
    names = tuple(name for metric in wanted.values() for name in metric.names)
    # The other lines, thousands of a histogram's buckets among them, are not worth parsing.
    lines = [line for line in page.splitlines() if line.startswith(names)]
    if len(lines) > LINES_MAX:
        raise ValueError(f"more than {LINES_MAX} lines of metrics")
    found: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                if math.isfinite(sample.value):
                    found.setdefault(sample.name, []).append(float(sample.value))
    except (ValueError, IndexError, KeyError) as exc:
        raise ValueError(f"not a page of metrics: {exc}") from exc
    values: dict[str, float] = {}
    for word, metric in wanted.items():
        for name in metric.names:
            if name in found:
                values[word] = max(found[name]) if metric.highest else sum(found[name])
                break
    return values

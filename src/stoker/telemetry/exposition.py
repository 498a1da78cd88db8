"""Reads the few numbers that Stoker wants out of a Prometheus page, or out of JSON. Pure; used by control."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from stoker.engines.base import Metric

# Lines of wanted metrics; a page with more is not one of an engine's.
LINES_MAX = 2_000
# What is decided by: nobody counts further, and sums of it stay numbers.
VALUE_MAX = 1e15


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
                value = max(found[name]) if metric.highest else sum(found[name])
                if math.isfinite(value):
                    values[word] = value
                break
    return values


def metric_of(page: str, name: str) -> float:
    """One metric of a page, summed up over its labels. Raises `ValueError`."""
    values = values_of(page, {name: Metric((name,))})
    if name not in values:
        raise ValueError(f"the page has no metric {name}")
    if abs(values[name]) > VALUE_MAX:
        raise ValueError(f"the metric {name} is beyond {VALUE_MAX:g}")
    return values[name]


def value_at(text: str, pointer: str) -> float:
    """The number that a JSON pointer (RFC 6901) leads to in this text. Raises `ValueError`."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ValueError(f"not JSON: {exc}") from exc
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(found):
            found = found[int(key[:9])]
        else:
            raise ValueError(f"there is nothing at {pointer}")
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"what is at {pointer} is no number")
    if not abs(found) <= VALUE_MAX:
        raise ValueError(f"what is at {pointer} is beyond {VALUE_MAX:g}")
    return float(found)

"""Histograms of what requests took, by endpoint, since the gateway's start. Counted when reports are made, never on a
request's way; `gateway.ledger` adds, `gateway.reports` takes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from stoker.link.messages import FIRST_BYTE_BUCKETS_S, SERVICE_BUCKETS_S, MeasureEntry


class _Histogram:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class _Measure:
    __slots__ = ("completion", "first_byte", "prompt", "service")

    def __init__(self) -> None:
        self.service = _Histogram(SERVICE_BUCKETS_S)
        self.first_byte = _Histogram(FIRST_BYTE_BUCKETS_S)
        self.prompt = 0
        self.completion = 0


class Measures:
    """See the module."""

    def __init__(self) -> None:
        self._measures: dict[str, _Measure] = {}
        self._grown: set[str] = set()

    def add(
        self, endpoint: str, service_s: float, first_byte_s: float | None, prompt: int | None, completion: int | None
    ) -> None:
        """A request that had a slot has ended. The first byte's time counts from its arrival, waiting included."""
        measure = self._measures.get(endpoint)
        if measure is None:
            measure = self._measures[endpoint] = _Measure()
        measure.service.add(service_s)
        if first_byte_s is not None:
            measure.first_byte.add(first_byte_s)
        measure.prompt += prompt or 0
        measure.completion += completion or 0
        self._grown.add(endpoint)

    def say_again(self) -> None:
        """The next report has all of them."""
        self._grown = set(self._measures)

    def take(self) -> tuple[MeasureEntry, ...]:
        """Those that have grown, for one report."""
        grown, self._grown = self._grown, set()
        return tuple(_entry(endpoint, m) for endpoint in grown if (m := self._measures.get(endpoint)) is not None)

    def forget(self, endpoints: Iterable[str]) -> None:
        """They are deleted."""
        for endpoint in endpoints:
            self._measures.pop(endpoint, None)


def _entry(endpoint: str, measure: _Measure) -> MeasureEntry:
    service, first = measure.service, measure.first_byte
    return MeasureEntry(
        endpoint,
        tuple(service.counts),
        round(service.total, 6),
        tuple(first.counts),
        round(first.total, 6),
        measure.prompt,
        measure.completion,
    )

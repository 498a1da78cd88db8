"""The Prometheus page: the gateways' cumulative reports, added up over restarts of gateways, by endpoint.

No label per worker, key or task. Fed by the link's listener, rendered by `stoker.scrape`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from stoker.domain.task import QueueTotals
from stoker.link.messages import FIRST_BYTE_BUCKETS_S, SERVICE_BUCKETS_S, EndpointReport, MeasureEntry, Report
from stoker.telemetry.scaled import Scaled, ScaledPage

# Gateways told apart: the present one, those on their way out, and some that died. The sums of older ones are kept.
SOURCES_MAX = 8
COUNTERS = (
    ("arrivals", "stoker_requests_arrived", "Requests that arrived, those of tasks that got a slot included"),
    ("completions", "stoker_requests_completed", "Requests answered completely, or left by their clients"),
    ("errors", "stoker_requests_failed", "Requests that a worker did not answer completely"),
    ("refusals", "stoker_requests_refused", "Requests refused by admission"),
)
GAUGES = (
    ("in_flight", "stoker_requests_in_flight", "Requests that hold a slot"),
    ("waiting", "stoker_requests_waiting", "Requests that wait for a slot"),
)
# By their names in `QueueDemand`.
TASK_GAUGES = (
    ("queued", "Tasks that wait, whatever for"),
    ("ready", "Tasks that wait and could go now"),
    ("running", "Tasks that run"),
)


@dataclass(slots=True)
class _Sums:
    """What grows, of one endpoint."""

    counts: list[int] = field(default_factory=lambda: [0] * len(COUNTERS))
    service: list[int] = field(default_factory=lambda: [0] * (len(SERVICE_BUCKETS_S) + 1))
    service_s: float = 0.0
    first_byte: list[int] = field(default_factory=lambda: [0] * (len(FIRST_BYTE_BUCKETS_S) + 1))
    first_byte_s: float = 0.0
    prompt: int = 0
    completion: int = 0

    def add(self, other: _Sums) -> None:
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.service = [a + b for a, b in zip(self.service, other.service, strict=True)]
        self.first_byte = [a + b for a, b in zip(self.first_byte, other.first_byte, strict=True)]
        self.service_s += other.service_s
        self.first_byte_s += other.first_byte_s
        self.prompt += other.prompt
        self.completion += other.completion

    def take(self, measure: MeasureEntry) -> None:
        # A gateway with other buckets cannot be added up; its sums still can.
        if len(measure.service) == len(self.service) and len(measure.first_byte) == len(self.first_byte):
            self.service, self.first_byte = list(measure.service), list(measure.first_byte)
            self.service_s, self.first_byte_s = measure.service_s, measure.first_byte_s
        self.prompt, self.completion = measure.prompt_tokens, measure.completion_tokens


@dataclass(slots=True)
class _Source:
    present: bool = True
    sums: dict[str, _Sums] = field(default_factory=dict)
    last: dict[str, EndpointReport] = field(default_factory=dict)


class Metrics:
    """See the module. A source is a gateway's incarnation."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}
        self._before: dict[str, _Sums] = {}

    def update(self, source: str, report: Report) -> None:
        """A gateway reports."""
        known = self._sources.pop(source, None) or _Source()
        self._sources[source] = known
        known.present = True
        for entry in report.endpoints:
            known.last[entry.id] = entry
            counts = [getattr(entry, name) for name, _, _ in COUNTERS]
            known.sums.setdefault(entry.id, _Sums()).counts = counts
        for measure in report.measures:
            known.sums.setdefault(measure.endpoint, _Sums()).take(measure)
        while len(self._sources) > SOURCES_MAX:
            oldest = self._sources.pop(next(iter(self._sources)))
            for endpoint, sums in oldest.sums.items():
                self._before.setdefault(endpoint, _Sums()).add(sums)

    def lost(self, source: str) -> None:
        """A gateway is gone: what it has now is unknown, what it counted stays."""
        if (known := self._sources.get(source)) is not None:
            known.present = False
            known.last = {}

    def forget(self, endpoints: Iterable[str]) -> None:
        """These endpoints are deleted."""
        for endpoint in endpoints:
            self._before.pop(endpoint, None)
            for source in self._sources.values():
                source.sums.pop(endpoint, None)
                source.last.pop(endpoint, None)

    def known(self) -> set[str]:
        """The endpoints that anything is known of."""
        return set(self._before).union(*(source.sums for source in self._sources.values()))

    def page(
        self,
        names: Mapping[str, str],
        queues: Mapping[str, QueueTotals],
        *,
        gateways: int,
        scaled: Mapping[str, Scaled] | None = None,
    ) -> bytes:
        """The page for the endpoints in `names`, which has the label of each by its id; `queues` has those that take
        tasks, `scaled` what scaling goes by, both by label.
        """
        registry = CollectorRegistry()
        registry.register(_Page(self, names, gateways))
        registry.register(_Queues(queues))
        registry.register(ScaledPage(scaled or {}))
        return generate_latest(registry)

    def sums(self, endpoint: str) -> _Sums:
        """All that was counted of one endpoint."""
        total = _Sums()
        for sums in (self._before.get(endpoint), *(source.sums.get(endpoint) for source in self._sources.values())):
            if sums is not None:
                total.add(sums)
        return total

    def present(self, endpoint: str) -> list[EndpointReport]:
        """The last words on it of the gateways that are there."""
        return [
            source.last[endpoint] for source in self._sources.values() if source.present and endpoint in source.last
        ]


class _Page(Collector):
    def __init__(self, metrics: Metrics, names: Mapping[str, str], gateways: int) -> None:
        self._metrics = metrics
        self._names = names
        self._gateways = gateways

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "stoker_gateways", "Gateways connected, those on their way out included", self._gateways
        )
        sums = {label: self._metrics.sums(id) for id, label in self._names.items()}
        for index, (_, name, text) in enumerate(COUNTERS):
            counter = CounterMetricFamily(name, text, labels=["endpoint"])
            for label, each in sums.items():
                counter.add_metric([label], each.counts[index])
            yield counter
        yield from self._gauges()
        yield from _histograms(sums)
        for name, text in (("prompt", "Tokens of prompts"), ("completion", "Tokens of completions")):
            tokens = CounterMetricFamily(f"stoker_{name}_tokens", f"{text}, as answers say", labels=["endpoint"])
            for label, each in sums.items():
                tokens.add_metric([label], getattr(each, name))
            yield tokens

    def _gauges(self) -> Iterator[Metric]:
        present = {label: self._metrics.present(id) for id, label in self._names.items()}
        for field_name, name, text in GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["endpoint"])
            for label, reports in present.items():
                if reports:
                    gauge.add_metric([label], sum(getattr(report, field_name) for report in reports))
            yield gauge
        oldest = GaugeMetricFamily("stoker_oldest_wait_seconds", "Age of the oldest wait", labels=["endpoint"])
        for label, reports in present.items():
            if reports:
                oldest.add_metric([label], max(report.oldest_wait_s for report in reports))
        yield oldest


class _Queues(Collector):
    def __init__(self, queues: Mapping[str, QueueTotals]) -> None:
        self._queues = queues

    def collect(self) -> Iterator[Metric]:
        for name, text in TASK_GAUGES:
            gauge = GaugeMetricFamily(f"stoker_tasks_{name}", text, labels=["endpoint"])
            for label, totals in self._queues.items():
                gauge.add_metric([label], getattr(totals.demand, name))
            yield gauge
        oldest = GaugeMetricFamily(
            "stoker_oldest_task_seconds", "Age of the task that waits longest", labels=["endpoint"]
        )
        arrived = CounterMetricFamily("stoker_tasks_arrived", "Tasks that were submitted", labels=["endpoint"])
        ended = CounterMetricFamily("stoker_tasks_ended", "Tasks that ended, by state", labels=["endpoint", "state"])
        for label, totals in self._queues.items():
            if totals.demand.oldest_age_s is not None:
                oldest.add_metric([label], totals.demand.oldest_age_s)
            arrived.add_metric([label], totals.arrived)
            for state, count in totals.ended.items():
                ended.add_metric([label, state.value], count)
        yield from (oldest, arrived, ended)


def _histograms(sums: Mapping[str, _Sums]) -> Iterator[Metric]:
    service = HistogramMetricFamily(
        "stoker_request_duration_seconds", "From the slot to the last byte", labels=["endpoint"]
    )
    first = HistogramMetricFamily(
        "stoker_time_to_first_byte_seconds", "From the arrival to the answer's first byte", labels=["endpoint"]
    )
    for label, each in sums.items():
        service.add_metric([label], _cumulated(SERVICE_BUCKETS_S, each.service), each.service_s)
        first.add_metric([label], _cumulated(FIRST_BYTE_BUCKETS_S, each.first_byte), each.first_byte_s)
    yield service
    yield first


def _cumulated(bounds: tuple[float, ...], counts: list[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets

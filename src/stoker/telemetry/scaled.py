"""What scaling goes by, as Prometheus metrics: workers, what they say, how old it is. What is not known is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """Of one endpoint: how many workers are `wanted`, how many there are by state, how long a start is expected to take
    and how old the gateway's last word on it is (`None`: not known). `signals` has, of each that ready workers tell,
    the mean over those that have told it lately, and how many these are.
    """

    wanted: int
    workers: Mapping[str, int]
    start_s: float | None
    report_age_s: float | None
    signals: Mapping[str, tuple[float, int]] = field(default_factory=dict)


class ScaledPage(Collector):
    """Of endpoints, by their labels."""

    def __init__(self, scaled: Mapping[str, Scaled]) -> None:
        self._scaled = scaled

    def collect(self) -> Iterator[Metric]:
        """What Prometheus asks for."""
        wanted = _gauge("stoker_workers_wanted", "Workers that scaling wants")
        states = _gauge("stoker_workers", "Workers that there are, by state", "state")
        start = _gauge("stoker_start_expected_seconds", "How long a start is expected to take, as learned")
        age = _gauge("stoker_report_age_seconds", "Age of the gateway's last word on it")
        mean = _gauge("stoker_worker_signal", "Mean over the ready workers that told it lately", "signal")
        count = _gauge("stoker_worker_signal_workers", "Ready workers that told it lately", "signal")
        for label, each in self._scaled.items():
            wanted.add_metric([label], each.wanted)
            for state, workers in each.workers.items():
                states.add_metric([label, state], workers)
            if each.start_s is not None:
                start.add_metric([label], each.start_s)
            if each.report_age_s is not None:
                age.add_metric([label], each.report_age_s)
            for signal, (value, workers) in each.signals.items():
                count.add_metric([label, signal], workers)
                if workers:
                    mean.add_metric([label, signal], value)
        yield from (wanted, states, start, age, mean, count)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["endpoint", *labels])

"""The Prometheus page: sums that survive gateways, gauges that do not, buckets as the field has them."""

from __future__ import annotations

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from stoker.domain.task import QueueDemand, QueueTotals, TaskState
from stoker.gateway.measures import Measures
from stoker.link.messages import EndpointReport, Report
from stoker.telemetry.metrics import SOURCES_MAX, Metrics

EMPTY = EndpointReport("e", 0, 0, 0.0, 0, 0, 0, 0, 0.0, 0.0, {})


def report(measures: Measures | None = None, **numbers: float) -> Report:
    entry = msgspec.structs.replace(EMPTY, **numbers)
    return Report(1, 1.0, (entry,), measures=() if measures is None else measures.take())


def values(metrics: Metrics) -> dict[str, float]:
    page = metrics.page({"e": "chat"}, {}, gateways=1).decode()
    return {
        sample.name + (f"<{sample.labels['le']}" if "le" in sample.labels else ""): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.labels.get("endpoint", "chat") == "chat"
    }


def test_counters_go_on_over_gateways_and_are_not_counted_twice() -> None:
    metrics = Metrics()
    metrics.update("one", report(arrivals=5, completions=4, in_flight=1))
    metrics.update("one", report(arrivals=7, completions=7))
    metrics.lost("one")
    metrics.update("two", report(arrivals=2, completions=1, errors=1, in_flight=3, waiting=2, oldest_wait_s=1.5))
    seen = values(metrics)
    assert seen["stoker_requests_arrived_total"] == 9
    assert seen["stoker_requests_completed_total"] == 8
    assert seen["stoker_requests_failed_total"] == 1
    assert (seen["stoker_requests_in_flight"], seen["stoker_requests_waiting"]) == (3, 2)
    assert seen["stoker_oldest_wait_seconds"] == 1.5
    for number in range(2 * SOURCES_MAX):
        metrics.update(f"more{number}", report(arrivals=1))
    assert values(metrics)["stoker_requests_arrived_total"] == 9 + 2 * SOURCES_MAX


def test_what_is_there_at_a_gateway_that_is_gone_is_unknown_and_not_zero() -> None:
    metrics = Metrics()
    metrics.update("one", report(in_flight=4))
    metrics.lost("one")
    assert "stoker_requests_in_flight" not in values(metrics)


def test_what_requests_took_falls_into_buckets() -> None:
    measures, metrics = Measures(), Metrics()
    for service_s, first_byte_s in ((0.01, 0.904), (1.0, None), (1_000.0, None)):
        measures.add("e", service_s=service_s, first_byte_s=first_byte_s, prompt=3, completion=4)
    metrics.update("one", report(measures))
    seen = values(metrics)
    assert seen["stoker_request_duration_seconds_bucket<0.01"] == 1
    assert seen["stoker_request_duration_seconds_bucket<1.28"] == 2
    assert seen["stoker_request_duration_seconds_bucket<+Inf"] == 3
    assert seen["stoker_request_duration_seconds_sum"] == 1_001.01
    assert seen["stoker_time_to_first_byte_seconds_bucket<0.75"] == 0
    assert seen["stoker_time_to_first_byte_seconds_bucket<1.0"] == 1
    assert (seen["stoker_prompt_tokens_total"], seen["stoker_completion_tokens_total"]) == (9, 12)
    assert measures.take() == (), "nothing has grown"
    measures.say_again()
    assert len(measures.take()) == 1


def test_deleted_endpoints_are_forgotten() -> None:
    metrics = Metrics()
    metrics.update("one", report(arrivals=5))
    metrics.forget(metrics.known())
    assert metrics.known() == set()
    assert values(metrics)["stoker_requests_arrived_total"] == 0


def test_queues_are_told_of_with_what_came_and_ended() -> None:
    def totals(demand: QueueDemand) -> QueueTotals:
        return QueueTotals(demand=demand, arrived=9, ended={TaskState.SUCCEEDED: 5, TaskState.FAILED: 0})

    queues = {
        "busy": totals(QueueDemand(queued=4, ready=3, running=2, oldest_age_s=1.5)),
        "idle": totals(QueueDemand()),
    }
    page = Metrics().page({}, queues, gateways=1).decode()
    seen = {
        (sample.name, sample.labels["endpoint"], sample.labels.get("state")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if "endpoint" in sample.labels
    }
    assert [seen[f"stoker_tasks_{name}", "busy", None] for name in ("queued", "ready", "running")] == [4, 3, 2]
    assert seen["stoker_oldest_task_seconds", "busy", None] == 1.5
    assert seen["stoker_tasks_arrived_total", "busy", None] == 9
    assert seen["stoker_tasks_ended_total", "busy", "succeeded"] == 5
    assert seen["stoker_tasks_ended_total", "busy", "failed"] == 0
    assert ("stoker_oldest_task_seconds", "idle", None) not in seen, "nothing waits, which is no age of 0"

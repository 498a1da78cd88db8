"""Policies over whole traces."""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import replace

import pytest

from stoker.domain.errors import Invalid
from stoker.simulate.compare import Comparison, front, percentile
from stoker.simulate.policies import POLICIES, Knobs, sweep
from stoker.simulate.report import page
from stoker.simulate.trace import PROFILES, Trace, requests_of

HOUR = 3_600.0


def drawn(seed: int, count: int, *, span_s: float = HOUR) -> Trace:
    """Bursts of requests of many sizes, at two endpoints."""
    draw = random.Random(seed)
    endpoints = []
    for name in ("a", "b"):
        centres = [draw.uniform(0, span_s) for _ in range(12)]
        rows = [
            (max(0.0, draw.gauss(draw.choice(centres), 90.0)), draw.randint(10, 4_000), draw.randint(1, 400))
            for _ in range(count // 2)
        ]
        endpoints.append(requests_of(name, rows))
    return Trace("drawn", tuple(endpoints))


@pytest.mark.parametrize("policy", POLICIES)
def test_an_hour_of_ten_thousand_requests_takes_less_than_two_seconds(policy: str) -> None:
    comparison = Comparison(drawn(1, 10_000), PROFILES["A"])
    began = time.process_time()
    result = comparison.result(policy)
    assert time.process_time() - began < 2.0
    assert result.requests == 10_000
    assert 0.0 <= result.attainment_5s <= result.attainment_30s <= 1.0
    assert result.gpu_s > 0
    assert result.steps[-1][1] == 0
    assert max(count for _, count in result.steps) <= result.workers_peak


def test_the_same_seed_gives_the_same_result_and_another_one_another() -> None:
    trace = drawn(2, 1_000)
    first, again = (Comparison(trace, PROFILES["A"]).result("kpa") for _ in range(2))
    other = Comparison(trace, PROFILES["A"], seed=1).result("kpa")
    assert first == again
    assert first.gpu_s != other.gpu_s


def test_hindsight_lets_nobody_wait_and_the_clairvoyant_is_cheaper() -> None:
    comparison = Comparison(drawn(3, 2_000), PROFILES["A"])
    static, clairvoyant = comparison.result("static-peak"), comparison.result("clairvoyant")
    assert static.attainment_5s == 1.0
    assert clairvoyant.gpu_s < static.gpu_s
    assert clairvoyant.attainment_5s > 0.9


def test_a_sweep_has_the_defaults_first_and_nothing_twice() -> None:
    for policy in POLICIES:
        settings = sweep(policy)
        assert settings[0] == Knobs()
        assert len(set(settings)) == len(settings)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(Invalid, match="no policy"):
        Comparison(drawn(4, 10), PROFILES["A"]).result("magic")


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([1.0, 2.0, 3.0], 0.99) == 3.0
    assert percentile([1.0], 0.0) == 1.0


def test_the_report_names_every_policy_and_escapes_what_is_not_its_own() -> None:
    trace = Trace("<b>", drawn(5, 300).endpoints)
    comparison = Comparison(trace, PROFILES["A"])
    results = [comparison.result(policy) for policy in POLICIES]
    text = page(results, PROFILES["A"])
    assert all(policy in text for policy in POLICIES)
    assert "<b>" not in text
    assert "http" not in text, "it loads nothing"
    assert json.dumps([result.document() for result in results])


@pytest.mark.parametrize(("dear", "apart"), [(2.0, 300), (60.0, 100)])
def test_what_is_dear_does_not_press_the_others_together_in_the_report(dear: float, apart: float) -> None:
    comparison = Comparison(drawn(5, 300), PROFILES["A"])
    [first] = [comparison.result(policy) for policy in ("keepalive",)]
    bound = first.zero_wait_bound_gpu_s
    results = [replace(first, policy=str(ratio), gpu_s=ratio * bound) for ratio in (1.0, 2.0, dear, 0.0)]
    at = [float(x) for x in re.findall(r'<circle cx="([0-9.]+)"', page(results, PROFILES["A"]))]
    assert at[1] - at[0] > apart
    assert all(50 <= x <= 810 for x in at)


def test_the_front_has_nobody_who_is_dearer_and_worse() -> None:
    comparison = Comparison(drawn(6, 1_000), PROFILES["A"])
    results = [comparison.result(policy) for policy in POLICIES]
    best = front(results)
    assert best
    for result in results:
        assert any(b.gpu_s <= result.gpu_s and b.attainment_5s >= result.attainment_5s for b in best)

"""Numbers out of metrics pages, as engines write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.engines.llamacpp import ENGINE as LLAMACPP
from stoker.engines.vllm import ENGINE as VLLM
from stoker.telemetry.exposition import LINES_MAX, metric_of, value_at, values_of

# As vLLM 0.12 writes it, shortened.
VLLM_PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.2345e+06
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 17.0
vllm:generation_tokens_created{engine="0",model_name="m"} 1.7e+09
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{le="0.3",model_name="m"} 1.0
"""
# As llama.cpp's server writes it.
LLAMACPP_PAGE = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 12
# HELP llamacpp:tokens_predicted_total Number of generation tokens processed.
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 34
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
# HELP llamacpp:requests_deferred Number of requests deferred.
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 0
"""


def test_values_of_several_engines_in_one_worker_are_summed_up_and_the_fullest_cache_counts() -> None:
    assert values_of(VLLM_PAGE, VLLM.metrics) == {
        "running": 5.0,
        "waiting": 0.0,
        "cache_usage": 0.75,
        "prompt_tokens": 1_234_500.0,
        "completion_tokens": 17.0,
    }


def test_what_an_engine_does_not_say_is_absent_and_zero_is_zero() -> None:
    assert values_of(LLAMACPP_PAGE, LLAMACPP.metrics) == {
        "running": 1.0,
        "waiting": 0.0,
        "prompt_tokens": 12.0,
        "completion_tokens": 34.0,
    }
    assert values_of("", VLLM.metrics) == {}
    assert values_of("vllm:num_requests_running NaN\n", VLLM.metrics) == {}


def test_an_older_name_is_understood() -> None:
    assert values_of("vllm:gpu_cache_usage_perc 0.5\n", VLLM.metrics) == {"cache_usage": 0.5}


@pytest.mark.parametrize(
    "page",
    [
        'vllm:num_requests_running{a="b" 1\n',
        "vllm:num_requests_running one\n",
        "llamacpp:x 1\n" + "vllm:num_requests_running 1\n" * (LINES_MAX + 1),
    ],
)
def test_a_page_that_is_none_is_refused(page: str) -> None:
    with pytest.raises(ValueError):
        values_of(page, VLLM.metrics)


@given(st.text())
def test_no_page_does_anything_but_give_values_or_be_refused(text: str) -> None:
    for page in (text, f"vllm:num_requests_running{text}"):
        with contextlib.suppress(ValueError):
            values_of(page, VLLM.metrics)


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        pytest.param("/queue/depth", 3.0, id="a field of a field"),
        pytest.param("/shards/1/depth", 2.0, id="an item of a list"),
        pytest.param("/a~1b", 5.0, id="a name with a slash"),
        pytest.param("/~0", 6.0, id="a name that is a tilde"),
    ],
)
def test_a_pointer_leads_to_a_number_in_json(pointer: str, expected: float) -> None:
    text = '{"queue": {"depth": 3}, "shards": [{}, {"depth": 2.0}], "a/b": 5, "~": 6}'
    assert value_at(text, pointer) == expected


@pytest.mark.parametrize(
    ("text", "pointer", "why"),
    [
        ("{", "/a", "not JSON"),
        ('{"a": 1}', "/b", "nothing at /b"),
        ('{"a": [1]}', "/a/1", "nothing at"),
        ('{"a": [1]}', "/a/x", "nothing at"),
        ('{"a": true}', "/a", "is no number"),
        ('{"a": "1"}', "/a", "is no number"),
        ('{"a": null}', "/a", "is no number"),
        ('{"a": 1e300}', "/a", "is beyond"),
        ('{"a": -1e300}', "/a", "is beyond"),
        ('{"a": ' + "9" * 400 + "}", "/a", "is beyond"),
        ("[" * 100_000 + "]" * 100_000, "/a", "not JSON"),
    ],
)
def test_what_is_no_number_is_said_to_be_none(text: str, pointer: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        value_at(text, pointer)


def test_one_metric_is_summed_over_its_labels_and_its_absence_is_said() -> None:
    page = 'depth{shard="0"} 3\ndepth{shard="1"} 4\ndepth_max 99\n'
    assert metric_of(page, "depth") == 7.0
    with pytest.raises(ValueError, match="no metric queue"):
        metric_of(page, "queue")
    with pytest.raises(ValueError, match="is beyond"):
        metric_of("depth 1e300\n", "depth")
    with pytest.raises(ValueError, match="no metric"):
        metric_of('depth{shard="0"} 1e308\ndepth{shard="1"} 1e308\n', "depth")

"""The native API's JSON: what goes out comes in again as the same."""

from __future__ import annotations

import json
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.strategies import policies
from stoker.api.wire.base import iso
from stoker.api.wire.spec import SpecIn
from stoker.domain.endpoint import (
    Access,
    EndpointSpec,
    PoolSpec,
    Rollout,
    ScaleBounds,
    ScalingPolicy,
    Timeouts,
    WaitingRoom,
)
from stoker.domain.gpus import FAMILIES
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import LaunchSpec
from stoker.domain.probe import Probe, Probes
from stoker.domain.scaling import Cpu, GpuMemory, GpuUtilization, Memory


def within(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


T = TypeVar("T")


def perhaps(values: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    return st.none() | values


texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30)
names = st.text(st.characters(whitelist_categories=["L", "N", "P", "S"]), min_size=1, max_size=40)
env = st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True), texts, max_size=4)
arguments = st.lists(texts, max_size=4).map(tuple)
ports = st.none() | st.integers(1, 65_535)
launches = st.one_of(
    st.builds(
        LaunchSpec,
        model=names,
        engine=names,
        engine_version=st.none() | names,
        parameters=arguments,
        env=env,
        port=ports,
    ),
    st.builds(LaunchSpec, image=names, command=arguments, env=env, port=ports),
    st.builds(LaunchSpec, command=st.lists(texts, min_size=1, max_size=4).map(tuple), env=env, port=ports),
)
families = st.sampled_from([family.name for family in FAMILIES])
hardware = st.one_of(
    st.builds(HardwareRequest, vcpu=perhaps(within(0.01, 1e4)), ram_gib=perhaps(within(0.01, 1e4))),
    st.builds(
        HardwareRequest,
        gpu_count=st.integers(1, 64),
        gpu_family=st.none() | families | st.lists(families, min_size=2, max_size=3, unique=True).map(tuple),
        vram_gib_min=perhaps(within(1, 200)),
        vcpu_per_gpu=perhaps(within(0.01, 1e4)),
        ram_gib_per_gpu=perhaps(within(0.01, 1e4)),
        disk_gib=perhaps(within(0.01, 1e4)),
        region=st.none() | st.from_regex(r"[a-z]{1,9}", fullmatch=True),
        price_max=perhaps(within(0.01, 1e4)),
    ),
)


@st.composite
def bounds(draw: st.DrawFn) -> ScaleBounds:
    high = draw(st.integers(0, 1_000))
    return ScaleBounds(min=draw(st.integers(0, high)), max=high, cold=draw(st.integers(0, high)))


probes = st.builds(
    Probe,
    path=st.none() | st.from_regex(r"/[a-z0-9/?=&]{0,30}", fullmatch=True),
    command=arguments,
    initial_delay_s=within(0, 3600),
    period_s=within(0.1, 3600),
    timeout_s=within(0.1, 300),
    failures_max=st.integers(1, 100),
    successes_min=st.integers(1, 100),
    start_timeout_s=within(1, 86_400),
)
# They need hardware of every pool.
OF_HARDWARE = Cpu | Memory | GpuUtilization | GpuMemory
specs = st.builds(
    EndpointSpec,
    name=names,
    launch=launches,
    pools=st.lists(
        st.builds(
            PoolSpec,
            name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True),
            provider=names,
            hardware=hardware,
            bounds=bounds(),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda pool: pool.name,
    )
    .map(tuple)
    .filter(lambda pools: sum(pool.bounds.max for pool in pools) <= 1_000),
    probes=st.builds(Probes, startup=perhaps(probes), readiness=perhaps(probes), liveness=perhaps(probes)),
    scaling=policies.filter(lambda policy: not any(isinstance(each, OF_HARDWARE) for each in policy.triggers))
    | st.builds(
        ScalingPolicy,
        target=perhaps(within(0.01, 100_000)),
        scale_down_delay_s=within(0, 86_400),
        idle_timeout_s=within(0, 604_800),
    ),
    access=st.sampled_from(Access),
    timeouts=st.builds(
        Timeouts,
        connect_s=within(0.1, 604_800),
        first_byte_s=perhaps(within(0.1, 604_800)),
        idle_s=perhaps(within(0.1, 604_800)),
        total_s=perhaps(within(0.1, 604_800)),
    ),
    waiting=st.builds(WaitingRoom, requests_max=st.integers(0, 100_000), wait_s_max=within(0, 86_400)),
    rollout=st.builds(Rollout, surge=st.integers(1, 1_000), drain_timeout_s=within(0, 86_400), grace_s=within(0, 600)),
    slots=st.none() | st.integers(1, 100_000),
    labels=st.dictionaries(texts, texts, max_size=3),
    annotations=st.dictionaries(texts, texts, max_size=3),
)


@settings(max_examples=60, deadline=None)
@given(specs)
def test_a_spec_that_is_shown_can_be_sent_back_as_it_is(spec: EndpointSpec) -> None:
    document = SpecIn.of(spec).model_dump_json()
    assert SpecIn.model_validate(json.loads(document)).to_spec() == spec


@settings(max_examples=60, deadline=None)
@given(specs)
def test_a_spec_comes_back_from_the_store_as_it_went_in(spec: EndpointSpec) -> None:
    assert msgspec.json.decode(msgspec.json.encode(spec), type=EndpointSpec) == spec


def test_what_is_left_out_is_the_default_of_the_domain() -> None:
    made = SpecIn.model_validate({"name": "e", "launch": {"command": ["x"]}}).to_spec()
    assert made == EndpointSpec(name="e", launch=LaunchSpec(command=("x",)))


@pytest.mark.parametrize(
    ("at", "text"),
    [
        pytest.param(None, None, id="unknown"),
        pytest.param(0.0, "1970-01-01T00:00:00.000Z", id="the epoch"),
        pytest.param(1_780_000_000.1239, "2026-05-28T20:26:40.123Z", id="milliseconds"),
    ],
)
def test_times_are_iso_8601_in_utc(at: float | None, text: str | None) -> None:
    assert iso(at) == text

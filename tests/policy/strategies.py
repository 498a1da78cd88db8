"""Policies and signals of all kinds, for properties of whatever decides."""

from __future__ import annotations

from hypothesis import strategies as st

from stoker.domain.scaling import (
    AnyTrigger,
    Auto,
    Concurrency,
    Cpu,
    Custom,
    GpuMemory,
    GpuUtilization,
    HttpRate,
    Load,
    LoadUnit,
    Memory,
    QueueDelay,
    QueueLength,
    RequestRate,
    ScalingPolicy,
    Schedule,
    SqsQueue,
    Step,
)
from stoker.policy.auto.estimates import Estimates, Setting, rounded
from stoker.policy.signals import Reading, Signals, WorkerSignals, custom_key

WINDOWS = (30.0, 60.0)
some = st.floats(0.1, 100)
windows = st.sampled_from(WINDOWS)
shares = st.floats(0, 2)
QUEUE = SqsQueue(url="u", endpoint="https://sqs.test", region="r", secret="s", messages=10, activation=5)
triggers: st.SearchStrategy[AnyTrigger] = st.one_of(
    st.just(QUEUE),
    st.builds(Auto, late_cost=st.floats(0, 1_000), wait_target_s=st.floats(0.1, 60)),
    st.builds(Concurrency, target=st.none() | some, window_s=st.just(0.0) | windows),
    st.builds(RequestRate, target=some, window_s=windows),
    st.builds(HttpRate, rate=some, window_s=windows),
    st.builds(QueueDelay, threshold_s=st.floats(0.5, 60)),
    st.builds(
        QueueLength,
        target=some,
        activation=st.integers(0, 5),
        in_flight=st.booleans(),
        tolerated=st.integers(0, 5),
    ),
    st.builds(
        Load, unit=st.sampled_from(LoadUnit), perf=st.none() | some, min_load=shares, cold_workers=st.integers(0, 3)
    ),
    st.builds(Cpu, threshold=st.floats(1, 100)),
    st.builds(Memory, threshold=st.floats(1, 100)),
    st.builds(GpuUtilization, threshold=st.floats(1, 100)),
    st.builds(GpuMemory, threshold=st.floats(1, 100)),
    st.builds(Custom, path=st.just("/stats"), metric=st.just("depth"), target=some),
    st.builds(Schedule, start=st.just("0 0 * * *"), end=st.just("0 12 * * *"), workers=st.integers(1, 9)),
)
steps = st.lists(
    st.builds(Step, workers=st.integers(1, 9)) | st.builds(Step, percent=some.map(lambda p: p + 1)), max_size=2
)
policies = st.builds(
    ScalingPolicy,
    triggers=st.lists(triggers, max_size=4, unique_by=lambda each: each.type).map(tuple),
    scale_up_delay_s=st.sampled_from((0.0, 30.0)),
    scale_down_delay_s=st.sampled_from((0.0, 60.0)),
    scale_up_steps=steps.map(tuple),
    scale_down_steps=steps.map(tuple),
    scale_up_cooldown_s=st.sampled_from((0.0, 20.0)),
    scale_down_cooldown_s=st.sampled_from((0.0, 20.0)),
    to_zero=st.booleans(),
)
readings = st.none() | st.builds(Reading, shares, st.floats(0, 30))
workers = st.builds(
    WorkerSignals,
    number=st.integers(1, 99),
    cpu=readings,
    memory=readings,
    gpu_utilization=readings,
    gpu_memory=readings,
    custom=st.just({})
    | st.fixed_dictionaries({custom_key("/stats", "depth"): st.builds(Reading, some, st.floats(0, 30))}),
)
no_rates: st.SearchStrategy[dict[float, Reading]] = st.just({})
rates = no_rates | st.fixed_dictionaries({window: st.builds(Reading, some, st.floats(0, 3)) for window in WINDOWS})
no_messages: st.SearchStrategy[dict[SqsQueue, Reading]] = st.just({})
settings = st.builds(
    Setting,
    slots=st.integers(1, 16),
    workers_max=st.integers(1, 100),
    late_cost_s=st.floats(0, 1_000),
    wait_target_s=st.floats(0.1, 60),
    cold_cost=st.sampled_from((0.0, 0.05)),
)
counts = st.integers(0, 200)
times = st.floats(0.02, 3_600).map(rounded)
estimates = st.builds(
    Estimates,
    in_flight=counts,
    waiting=counts,
    ready=counts,
    active=counts,
    busy=counts,
    cold=counts,
    loading=st.booleans(),
    start_s=times,
    start_left_s=times,
    arrived=counts,
    service_s=times,
    service_known=st.booleans(),
    resume_s=st.just(0.0) | times,
    warm=counts,
    rise=st.integers(0, 64),
    persistence=st.floats(0, 1).map(rounded),
    kept=counts,
    kept_s=times,
    going=counts,
)
readings_of_everything = st.builds(
    Signals,
    in_flight=st.integers(0, 100),
    waiting=st.integers(0, 100),
    busy_at=st.floats(0, 1_000),
    queued=st.integers(0, 100),
    running=st.integers(0, 100),
    oldest_wait_s=st.floats(0, 100),
    oldest_task_s=readings,
    arrivals=rates,
    presence=rates,
    messages=no_messages | st.fixed_dictionaries({QUEUE: st.builds(Reading, some, st.floats(0, 60))}),
    auto=st.none() | st.tuples(estimates, settings),
    completion_tokens=readings,
    requests_per_s=readings,
    tokens_per_s=readings,
    workers=st.lists(workers, max_size=4).map(tuple),
)

"""Resources as hardware and back, and how many workers there are then, whatever requests there are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.dialects.yotta.placing import PLACEMENT, Placement, placement_of, resized, sized, workers_of
from stoker.dialects.yotta.wire.endpoints import EndpointPatch, Resource
from stoker.domain.endpoint import EndpointSpec, PoolSpec, ScaleBounds
from stoker.domain.gpus import FAMILIES, spelled
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import LaunchSpec
from stoker.policy.memory import Memory
from stoker.policy.pools import distribute
from stoker.policy.scaling import Signals, decide

TYPES = [spelled(each.name, "yotta", vram_gib=size) for each in FAMILIES for size in each.vram_gib]
SPEC = EndpointSpec(name="e", launch=LaunchSpec(command=("x",)))
COUNTS = st.integers(1, 8)
MINIMA = st.none() | st.integers(1, 20)


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    count = draw(COUNTS)
    types = st.sampled_from([*TYPES, "NVIDIA_RTX_A6000"])
    pairs = draw(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), types), min_size=1, max_size=4))
    return Placement(
        resources=[Resource(region=region, gpu_type=type, gpu_count=count) for region, type in pairs],
        min_single_card_vram_in_gb=draw(MINIMA),
        min_single_card_vcpu=draw(MINIMA),
        min_single_card_ram_in_gb=draw(MINIMA),
        container_volume_in_gb=draw(st.integers(20, 99)),
    )


def made(placement: Placement, workers: int) -> EndpointSpec:
    """An endpoint with so many workers there."""
    hardware = placement.hardware()
    spec = sized(SPEC, hardware, ["p"] * len(hardware), workers)
    return replace(spec, annotations={PLACEMENT: placement.model_dump_json(exclude_none=True)})


@given(placement=placements(), workers=st.integers(0, 9))
def test_what_was_said_comes_back_and_every_worker_has_what_it_asks_for(placement: Placement, workers: int) -> None:
    spec = made(placement, workers)
    assert placement_of(spec) == placement
    assert workers_of(spec) == workers
    for pool in spec.pools:
        hardware = pool.hardware
        assert hardware.gpu_count == placement.resources[0].gpu_count
        assert (hardware.vram_gib_min or 0) >= (placement.min_single_card_vram_in_gb or 0)
        assert hardware.vcpu_per_gpu == placement.min_single_card_vcpu
        assert hardware.ram_gib_per_gpu == placement.min_single_card_ram_in_gb
    regions = list(dict.fromkeys(each.region for each in placement.resources))
    assert [pool.hardware.region for pool in spec.pools] == regions, "in the order of trying"


@given(
    placement=placements(),
    before=st.integers(0, 9),
    workers=st.integers(0, 9),
    busy=st.integers(0, 50),
    now=st.floats(1, 4e9),
    silent=st.booleans(),
)
def test_there_are_as_many_workers_as_were_asked_for_whatever_there_is_to_do(
    placement: Placement, before: int, workers: int, busy: int, now: float, silent: bool
) -> None:
    spec = resized(made(placement, before), workers)
    assert spec is not None
    signals = None if silent else Signals(in_flight=busy, waiting=busy, busy_at=now if busy else now - 1e6)
    # Asked at the look after the change.
    memory = Memory.of(before, now - 1)
    decision = decide(spec.scaling, spec.bounds, signals, slots=1, current=before, now=now, memory=memory)
    assert decision.workers == workers
    assert spec.initial == workers
    assert sum(distribute(workers, spec.pools, {}).values()) == workers


def test_of_one_that_scales_by_itself_the_most_is_said_and_of_several_pools_nothing() -> None:
    pool = PoolSpec(bounds=ScaleBounds(min=2, max=5, cold=3))
    spec = replace(SPEC, pools=(pool,))
    for workers, expected in ((8, (2, 8, 3)), (1, (1, 1, 1)), (0, (0, 0, 0))):
        changed = resized(spec, workers)
        assert changed is not None
        bounds = changed.pools[0].bounds
        assert (bounds.min, bounds.max, bounds.cold) == expected
    assert resized(replace(spec, pools=(pool, replace(pool, name="b"))), 3) is None


@pytest.mark.parametrize(
    ("hardware", "shown"),
    [
        (HardwareRequest(), ("local", "CPU", 0)),
        (HardwareRequest(region="eu"), ("eu", "CPU", 0)),
        (HardwareRequest(gpu_count=2), ("local", "ANY", 2)),
        (HardwareRequest(gpu_count=1, gpu_family="h100", vram_gib_min=80), ("local", "NVIDIA_H100_80G", 1)),
        (HardwareRequest(gpu_count=1, gpu_family="h100"), ("local", "NVIDIA_H100", 1)),
        (HardwareRequest(gpu_count=1, gpu_family="mycard"), ("local", "NVIDIA_mycard", 1)),
    ],
)
def test_hardware_that_was_asked_for_elsewhere_is_shown_as_a_resource(
    hardware: HardwareRequest, shown: tuple[str, str, int]
) -> None:
    for kept in ({}, {PLACEMENT: "no JSON"}, {PLACEMENT: '{"resources": []}'}):
        placement = placement_of(replace(SPEC, pools=(PoolSpec(hardware=hardware),), annotations=kept))
        [resource] = placement.resources
        assert (resource.region, resource.gpu_type, resource.gpu_count) == shown
        assert placement.container_volume_in_gb == 20
        assert placement.changed(EndpointPatch(resources=[resource], container_volume_in_gb=20)) == placement

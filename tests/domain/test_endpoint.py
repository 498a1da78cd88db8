"""What an endpoint may be: everything else is refused, at its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import endpoint
from stoker.domain.endpoint import (
    EndpointSpec,
    Override,
    PoolSpec,
    Rollout,
    ScaleBounds,
    ScalingPolicy,
    Timeouts,
    WaitingRoom,
    slug_of,
)
from stoker.domain.errors import Invalid
from stoker.domain.launch import LaunchSpec
from stoker.domain.probe import Probe, Probes
from stoker.domain.queueing import Mode, QueueSpec

NAN = float("nan")
RUN = LaunchSpec(command=("run",))
PULL = QueueSpec(pull=True)


def spec(name: str = "e", **more: object) -> EndpointSpec:
    return EndpointSpec(name=name, launch=RUN, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "pointer"),
    [
        (lambda: spec(""), "/name"),
        (lambda: spec(queue=QueueSpec(pull=True)), "/queue/pull"),
        (lambda: spec(queue=QueueSpec(pull=True), mode=Mode.MIXED), "/queue/pull"),
        (lambda: spec(queue=PULL, mode=Mode.QUEUE, probes=Probes(startup=Probe())), "/probes"),
        (lambda: EndpointSpec(name="e", launch=LaunchSpec(model="m"), queue=PULL, mode=Mode.QUEUE), "/queue/pull"),
        (lambda: QueueSpec(lease_s=2), "/queue/lease_s"),
        (lambda: spec("\t"), "/name"),
        (lambda: spec("x" * 256), "/name"),
        (lambda: spec("a\rb"), "/name"),
        (lambda: spec("\ud800"), "/name"),
        (lambda: spec(pools=()), "/pools"),
        (lambda: spec(pools=(PoolSpec(), PoolSpec())), "/pools/1/name"),
        (lambda: spec(pools=tuple(PoolSpec(name=n, bounds=ScaleBounds(max=501)) for n in "ab")), "/pools"),
        (lambda: PoolSpec(name="a b"), "/name"),
        (lambda: spec(slots=0), "/slots"),
        (lambda: spec(slots=10**400), "/slots"),
        (lambda: spec(labels={"k" * 256: ""}), "/labels"),
        (lambda: spec(annotations={"k": "v" * 4097}), "/annotations"),
        (lambda: Probe(path="x"), "/path"),
        (lambda: Probe(path="/ x"), "/path"),
        (lambda: Probe(path="/" + "x" * 1024), "/path"),
        (lambda: Probe(period_s=0.0), "/period_s"),
        (lambda: Probe(timeout_s=NAN), "/timeout_s"),
        (lambda: Probe(failures_max=0), "/failures_max"),
        (lambda: Probe(start_timeout_s=0.5), "/start_timeout_s"),
        (lambda: PoolSpec(slots=4), "/slots"),
        (lambda: PoolSpec(launch=LaunchSpec(command=("c",)), slots=0), "/slots"),
        (lambda: ScaleBounds(min=-1), "/min"),
        (lambda: ScaleBounds(max=1_001), "/max"),
        (lambda: ScaleBounds(min=2, max=1), "/min"),
        (lambda: ScaleBounds(max=2, cold=3), "/cold"),
        (lambda: ScaleBounds(max=2, cold=-1), "/cold"),
        (lambda: ScalingPolicy(target=0.0), "/scaling/target"),
        (lambda: ScalingPolicy(scale_down_delay_s=-1.0), "/scaling/scale_down_delay_s"),
        (lambda: ScalingPolicy(idle_timeout_s=NAN), "/scaling/idle_timeout_s"),
        (lambda: Timeouts(connect_s=0.0), "/timeouts/connect_s"),
        (lambda: Timeouts(total_s=1e9), "/timeouts/total_s"),
        (lambda: WaitingRoom(requests_max=-1), "/waiting/requests_max"),
        (lambda: WaitingRoom(wait_s_max=1e6), "/waiting/wait_s_max"),
        (lambda: Rollout(surge=0), "/rollout/surge"),
        (lambda: Rollout(drain_timeout_s=-1.0), "/rollout/drain_timeout_s"),
        (lambda: Rollout(grace_s=601.0), "/rollout/grace_s"),
    ],
)
def test_what_makes_no_sense_cannot_be(make: Callable[[], object], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        make()
    [problem] = caught.value.problems
    assert problem.pointer == pointer
    assert len(problem.detail) < 200


@pytest.mark.parametrize(
    "make",
    [
        lambda: spec("x" * 255, slots=100_000),
        lambda: spec("\N{PILE OF POO} \u4f60\u597d"),
        lambda: Probe(path=None),
        lambda: ScaleBounds(min=0, max=0),
        lambda: ScaleBounds(min=1_000, max=1_000, cold=1_000),
        lambda: ScalingPolicy(scale_down_delay_s=0.0, idle_timeout_s=0.0),
        lambda: Timeouts(first_byte_s=None, idle_s=None),
        lambda: Rollout(drain_timeout_s=0.0, grace_s=0.0),
    ],
)
def test_what_is_unusual_is_none_the_worse(make: Callable[[], object]) -> None:
    make()


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("My Chat (v2)", "my-chat-v2"),
        ("a", "a"),
        ("--a--b--", "a-b"),
        ("A.B/C_D", "a-b-c-d"),
        ("\u4f60\u597d", None),
        ("!!!", None),
        ("caf\u00e9", "caf"),
        ("x" * 100, "x" * 63),
        ("x" * 62 + " y", "x" * 62),
    ],
)
def test_a_name_suggests_a_dns_label(name: str, slug: str | None) -> None:
    assert slug_of(name) == slug


@given(st.text())
def test_a_slug_is_a_dns_label_whatever_the_name(name: str) -> None:
    slug = slug_of(name)
    assert slug is None or re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", slug)


def test_a_number_set_by_hand_holds_until_its_time() -> None:
    assert Override(workers=1).holds(1e12)
    assert [Override(workers=1, until=10.0).holds(now) for now in (9.9, 10.0)] == [True, False]


def test_what_its_owner_says_wins_over_what_the_engine_says() -> None:
    made = endpoint()
    engine = made.launch.probe
    assert (made.slots, made.as_revision().probes_of("default")) == (
        made.launch.slots,
        Probes(startup=engine, liveness=engine),
    )
    told = replace(made, spec=replace(made.spec, slots=7, probes=Probes(readiness=Probe(path="/mine"))))
    mine = Probe(path="/mine")
    known = Probes(startup=mine, readiness=mine, liveness=engine)
    assert (told.slots, told.as_revision().probes_of("default")) == (7, known)


@pytest.mark.parametrize(("lease_s", "ping_s"), [(3, 1), (5.9, 1), (9, 3), (30, 10), (3_600, 10)])
def test_workers_that_ask_for_tasks_ping_three_times_in_a_lease_in_whole_seconds(lease_s: float, ping_s: int) -> None:
    assert QueueSpec(lease_s=lease_s).ping_s == ping_s

"""Whose idle workers make room."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import endpoint, worker
from stoker.domain.endpoint import Endpoint, EndpointId, Override, Phase, PoolSpec, ScaleBounds
from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, Placement
from stoker.domain.worker import WorkerId, WorkerState
from stoker.policy.eviction import Idle, choose, spare
from stoker.policy.placement import place
from stoker.policy.scaling import Signals

S = WorkerState
NOW = 1_000.0


def signals(*, in_flight: int = 0, waiting: int = 0, busy_at: float = 900.0) -> Signals:
    return Signals(in_flight=in_flight, waiting=waiting, busy_at=busy_at)


def pool(low: int, cold: int = 0) -> Endpoint:
    return endpoint(pools=(PoolSpec(bounds=ScaleBounds(min=low, max=10, cold=cold)),))


def spared(which: Endpoint, *, heard: Signals | None = None, residence_s: float = 30.0) -> list[str]:
    workers = [worker(n, S.READY, ready_at=NOW - 10 * n) for n in range(1, 6)]
    found = spare(which, workers, heard, {workers[4].id: 1}, now=NOW, residence_s=residence_s)
    return [idle.worker for idle in found]


def test_idle_workers_above_the_floor_can_go_after_their_residence_the_newest_first() -> None:
    assert spared(pool(0), heard=signals()) == ["w4", "w3"]
    assert spared(pool(0), heard=signals(), residence_s=0.0) == ["w4", "w3", "w2", "w1"]
    assert spared(pool(4), heard=signals()) == ["w4"]
    assert spared(pool(5), heard=signals()) == []
    assert spared(pool(0, cold=4), heard=signals()) == ["w4"], "the floor of what is kept cold is one too"


@pytest.mark.parametrize(
    ("which", "heard"),
    [
        pytest.param(pool(0), None, id="nothing is known of its requests"),
        pytest.param(pool(0), signals(waiting=1), id="requests wait for it"),
        pytest.param(endpoint(phase=Phase.DELETING), signals(), id="it is on its way out anyway"),
        pytest.param(replace(pool(0), override=Override(workers=5)), signals(), id="the number is set by hand"),
        pytest.param(replace(pool(0), override=Override(workers=5, until=NOW + 1)), signals(), id="for a while yet"),
        pytest.param(endpoint(revision=2), signals(), id="an update replaces them already"),
    ],
)
def test_nobody_is_asked_whose_workers_are_needed(which: Endpoint, heard: Signals | None) -> None:
    assert spared(which, heard=heard) == []


def test_how_long_it_was_idle_is_told_and_no_longer_than_it_was_there() -> None:
    [found] = spare(pool(0), [worker(1, S.READY, ready_at=960.0)], signals(), {}, now=NOW, residence_s=30.0)
    assert (found.idle_s, found.resident_s) == (40.0, 40.0)
    busy = signals(in_flight=1, busy_at=NOW)
    [found] = spare(pool(0), [worker(1, S.READY, ready_at=960.0)], busy, {}, now=NOW, residence_s=30.0)
    assert found.idle_s == 0.0


def idle(number: int, idle_s: float) -> Idle:
    return Idle(
        worker=WorkerId(f"w{number}"),
        number=number,
        endpoint=EndpointId("e"),
        slug="e",
        idle_s=idle_s,
        resident_s=100.0,
    )


def test_the_least_recently_used_one_that_suffices_alone_goes() -> None:
    candidates = [idle(1, 5.0), idle(2, 50.0), idle(3, 500.0)]
    assert choose(candidates, lambda gone: bool(gone)) == (candidates[2],)
    assert choose(candidates, lambda gone: bool(gone - {"w3"})) == (candidates[1],)
    assert choose(candidates, lambda gone: len(gone) >= 2) == (candidates[2], candidates[1])
    assert choose(candidates, lambda gone: False) == ()
    assert choose([], lambda gone: True) == ()


HOSTS = ("a", "b", "c")


@st.composite
def crowds(draw: st.DrawFn) -> tuple[list[Offer], dict[WorkerId, Placement], list[Idle], HardwareRequest]:
    offers: list[Offer] = []
    held: dict[WorkerId, Placement] = {}
    candidates: list[Idle] = []
    number = 0
    for host in HOSTS:
        cards = draw(st.integers(1, 4))
        gpus = tuple(GpuDevice(index=n, id=str(n), family="a100", vram_gib=40.0) for n in range(cards))
        offers.append(Offer(host=host, vcpu=8.0, ram_gib=64.0, gpus=gpus))
        free = list(range(cards))
        for size in draw(st.lists(st.integers(1, 4), max_size=4)):
            taken = [free.pop() for _ in range(min(size, len(free)))]
            if not taken:
                break
            number += 1
            held[WorkerId(f"w{number}")] = Placement(host=host, gpus=tuple(sorted(taken)))
            if draw(st.booleans()):
                candidates.append(idle(number, float(draw(st.integers(0, 3)))))
    return offers, held, candidates, HardwareRequest(gpu_count=draw(st.integers(1, 4)))


@given(crowds(), st.randoms())
def test_what_is_chosen_makes_room_and_nobody_goes_who_could_stay(
    crowd: tuple[list[Offer], dict[WorkerId, Placement], list[Idle], HardwareRequest], random: st.DataObject
) -> None:
    offers, held, candidates, request = crowd

    def fits(gone: frozenset[WorkerId]) -> bool:
        left = [placement for name, placement in held.items() if name not in gone]
        return isinstance(place(request, offers, left, ports=0), Placement)

    if fits(frozenset()):
        return
    chosen = choose(candidates, fits)
    names = {one.worker for one in chosen}
    possible = fits(frozenset(one.worker for one in candidates))
    assert bool(chosen) == possible
    assert set(chosen) <= set(candidates)
    if chosen:
        assert fits(frozenset(names))
        assert not any(fits(frozenset(rest)) for rest in combinations(names, len(names) - 1))
    if len(chosen) == 1:
        alone = [one for one in candidates if fits(frozenset({one.worker}))]
        assert chosen[0].idle_s == max(one.idle_s for one in alone)
    random.shuffle(candidates)  # type: ignore[attr-defined]
    assert choose(candidates, fits) == chosen, "in whatever order they are told"

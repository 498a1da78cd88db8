"""Which pool gains a worker and which loses one."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from builders import worker
from stoker.domain.endpoint import PoolSpec, ScaleBounds
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.policy.pools import distribute, pools_for, victims

S = WorkerState


def pools(*bounds: tuple[int, int]) -> tuple[PoolSpec, ...]:
    return tuple(PoolSpec(name=f"p{n}", bounds=ScaleBounds(min=low, max=high)) for n, (low, high) in enumerate(bounds))


def test_minima_come_first_then_the_first_pool_with_room() -> None:
    made = pools((0, 2), (1, 5))
    assert distribute(1, made, {}) == {"p0": 0, "p1": 1}
    assert distribute(4, made, {}) == {"p0": 2, "p1": 2}
    assert distribute(2, made, {"p0": 2, "p1": 1}) == {"p0": 0, "p1": 2}
    assert distribute(9, made, {}) == {"p0": 4, "p1": 5}, "a number set by hand may be above all maxima"


def test_the_last_pool_loses_workers_first_and_none_falls_below_its_minimum() -> None:
    made = pools((0, 3), (1, 3))
    workers = [worker(n, S.READY, pool=f"p{n % 2}") for n in range(1, 7)]
    assert [w.id for w in victims(workers, made, wanted=5, loads={})] == ["w5"]
    assert [w.id for w in victims(workers, made, wanted=3, loads={})] == ["w5", "w3", "w6"]
    busy = {WorkerId("w5"): 2, WorkerId("w3"): 1}
    assert [w.id for w in victims(workers, made, wanted=5, loads=busy)] == ["w1"]


def test_those_that_come_back_from_cold_go_after_those_that_start() -> None:
    workers = [
        worker(1, S.READY),
        worker(2, S.STARTING, from_cold=True),
        worker(3, S.STARTING),
        worker(4, S.STARTING, from_cold=True),
    ]
    made = (PoolSpec(bounds=ScaleBounds(max=9)),)
    assert [w.id for w in victims(workers, made, wanted=1, loads={})] == ["w3", "w4", "w2"]


def test_a_pending_worker_stays_where_it_is_needed_and_else_goes_where_there_is_room() -> None:
    made = pools((1, 3), (0, 2), (0, 1))

    def names(pool: str, have: dict[str, int], *rests: str) -> list[str]:
        return [found.name for found in pools_for(worker(1, S.PENDING, pool=pool), made, have, rests=rests)]

    assert names("p0", {"p0": 1}) == ["p0"], "its pool's minimum"
    assert names("p0", {"p0": 2, "p2": 1}) == ["p0", "p1"]
    assert names("gone", {"p0": 3}) == ["p1", "p2"]
    assert names("p0", {"p0": 2}, "p0") == ["p1", "p2"], "not where starts fail"
    assert names("p0", {"p0": 2}, "p0", "p1", "p2") == ["p0"], "unless they fail everywhere"


bounded = st.tuples(st.integers(0, 3), st.integers(0, 4)).map(lambda pair: (min(pair), max(pair)))
specs = st.lists(bounded, min_size=1, max_size=3).map(lambda bounds: pools(*bounds))


@given(specs, st.integers(0, 12), st.lists(st.integers(0, 5), min_size=3, max_size=3))
def test_all_that_are_given_out_go_somewhere_and_within_the_bounds_as_long_as_they_can(
    made: tuple[PoolSpec, ...], count: int, present: list[int]
) -> None:
    have = {pool.name: number for pool, number in zip(made, present, strict=False)}
    given_out = distribute(count, made, have)
    assert sum(given_out.values()) == count
    assert all(number >= 0 for number in given_out.values())
    room = sum(max(0, pool.bounds.max - have[pool.name]) for pool in made)
    if count <= room:
        assert all(not given_out[p.name] or have[p.name] + given_out[p.name] <= p.bounds.max for p in made)
    lacking = {p.name: max(0, p.bounds.min - have[p.name]) for p in made}
    if count >= sum(lacking.values()):
        assert all(given_out[name] >= lack for name, lack in lacking.items())


@st.composite
def crowds(draw: st.DrawFn) -> tuple[tuple[PoolSpec, ...], list[Worker], dict[WorkerId, int]]:
    made = draw(specs)
    workers = [
        worker(n, draw(st.sampled_from([S.PENDING, S.STARTING, S.READY])), pool=draw(st.sampled_from(made)).name)
        for n in range(1, draw(st.integers(0, 8)) + 1)
    ]
    return made, workers, {w.id: draw(st.integers(0, 2)) for w in workers}


@given(crowds(), st.integers(0, 10))
def test_nobody_goes_without_need_and_no_pool_is_left_above_its_maximum(
    crowd: tuple[tuple[PoolSpec, ...], list[Worker], dict[WorkerId, int]], wanted: int
) -> None:
    made, workers, loads = crowd
    leaving = victims(workers, made, wanted=wanted, loads=loads)
    assert len({w.id for w in leaving}) == len(leaving)
    have = Counter(w.pool for w in workers)
    left = Counter(w.pool for w in workers if w not in leaving)
    over = sum(max(0, have[p.name] - p.bounds.max) for p in made)
    total = sum(p.bounds.max for p in made)
    if wanted <= total:
        assert all(left[p.name] <= p.bounds.max for p in made)
        assert len(leaving) <= max(over, len(workers) - wanted)
    if sum(p.bounds.min for p in made) <= wanted:
        assert all(left[p.name] >= min(have[p.name], p.bounds.min) for p in made)

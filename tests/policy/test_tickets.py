"""Which worker a ticket is for: the least loaded of those that take requests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.endpoint import EndpointId
from stoker.domain.worker import Address, Worker, WorkerId, WorkerState
from stoker.policy.tickets import choose


def worker(number: int, *, slots: int = 1, state: WorkerState = WorkerState.READY, unready: str = "") -> Worker:
    return Worker(
        id=WorkerId(f"w{number}"),
        number=number,
        endpoint=EndpointId("e"),
        pool="default",
        revision=1,
        provider="fake",
        state=state,
        slots=slots,
        created_at=0.0,
        address=Address(host="h", port=1),
        unready=unready,
    )


def chosen(workers: list[Worker], loads: dict[str, int], reserved: dict[str, float], cost: float = 1.0) -> str | None:
    found = choose(
        workers,
        loads={WorkerId(w): n for w, n in loads.items()},
        reserved={WorkerId(w): n for w, n in reserved.items()},
        cost=cost,
    )
    return None if found is None else found.id


@pytest.mark.parametrize(
    ("loads", "reserved", "expected"),
    [
        pytest.param({}, {}, "w1", id="the oldest among idle ones"),
        pytest.param({"w1": 1}, {}, "w2", id="one with nothing in flight"),
        pytest.param({}, {"w1": 0.5}, "w2", id="one that nothing is announced for"),
        pytest.param({"w1": 1}, {"w2": 3.0}, "w1", id="both are load"),
    ],
)
def test_what_is_in_flight_and_what_is_announced_count_alike(
    loads: dict[str, int], reserved: dict[str, float], expected: str
) -> None:
    assert chosen([worker(2), worker(1)], loads, reserved) == expected


def test_a_big_worker_takes_more() -> None:
    assert chosen([worker(1), worker(2, slots=8)], {"w1": 0, "w2": 5}, {}) == "w2"


@pytest.mark.parametrize("state", set(WorkerState) - {WorkerState.READY})
def test_only_ready_workers_are_reserved(state: WorkerState) -> None:
    assert chosen([worker(1, state=state)], {}, {}) is None
    assert chosen([worker(1, unready="its probe fails"), replace(worker(2), address=None)], {}, {}) is None


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 20), st.floats(0, 20)), min_size=1, max_size=8),
    st.floats(0.01, 10),
)
def test_no_other_worker_would_be_less_loaded(facts: list[tuple[int, int, float]], cost: float) -> None:
    workers = [worker(number, slots=slots) for number, (slots, _, _) in enumerate(facts, 1)]
    loads = {f"w{number}": load for number, (_, load, _) in enumerate(facts, 1)}
    reserved = {f"w{number}": load for number, (_, _, load) in enumerate(facts, 1)}
    taken = chosen(workers, loads, reserved, cost)
    shares = {f"w{n}": (load + announced + cost) / slots for n, (slots, load, announced) in enumerate(facts, 1)}
    assert taken is not None
    assert shares[taken] == min(shares.values())
    assert taken == chosen(workers[::-1], loads, reserved, cost), "whatever the order"

"""What workers' time adds to the hours, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import worker
from stoker.domain.hardware import GpuDevice, Offer, Placement, Prices
from stoker.domain.worker import WorkerState
from stoker.policy.accounting import hardware_name, price_of, time_of

CARDS = tuple(GpuDevice(index=n, id=str(n), family="h100", vram_gib=80.0) for n in range(2))
PRICES = Prices(gpus={"h100": 2.0}, cpu=0.25, vcpu=0.01, ram_gib=0.001)
HOST = Offer(host="h", vcpu=8.0, ram_gib=64.0, gpus=CARDS, prices=PRICES)
HELD = Placement(host="h", gpus=(0, 1), vcpu=4.0, ram_gib=10.0)


def test_a_worker_costs_what_it_was_placed_at_else_what_its_host_asks_now() -> None:
    assert price_of(HELD, HOST) == pytest.approx(4.0 + 0.04 + 0.01)
    assert price_of(replace(HELD, price=1.5), HOST) == 1.5
    assert price_of(Placement(host="h", vcpu=2.0), HOST) == pytest.approx(0.25 + 0.02)
    assert price_of(HELD, replace(HOST, prices=None)) is None
    assert price_of(HELD, None) is None
    assert price_of(None, HOST) is None


def test_what_a_cold_worker_has_let_go_of_costs_nothing() -> None:
    placed = replace(HELD, price=4.05)
    assert price_of(replace(placed, freed=("vcpu",)), HOST) == pytest.approx(4.0 + 0.01)
    assert price_of(replace(placed, freed=("vram",)), HOST) == pytest.approx(0.25 + 0.04 + 0.01)
    assert price_of(replace(placed, freed=("vram",)), replace(HOST, prices=None)) is None, "unknown is not free"


def test_hardware_is_named_by_its_cards() -> None:
    assert hardware_name(HELD, HOST) == "2x h100"
    assert hardware_name(HELD, None) == "2x gpu"
    assert hardware_name(Placement(host="h"), HOST) == "cpu"
    assert hardware_name(None, None) == "cpu"


@given(
    started=st.floats(0, 10_000),
    ready_after=st.none() | st.floats(0, 5_000),
    lasted=st.none() | st.floats(0, 20_000),
    cuts=st.lists(st.floats(0, 40_000), max_size=5),
    price=st.none() | st.floats(0, 10),
)
def test_however_time_is_cut_every_second_counts_once_and_in_its_hour(
    started: float, ready_after: float | None, lasted: float | None, cuts: list[float], price: float | None
) -> None:
    ended = None if lasted is None else started + lasted
    ready = None if ready_after is None else started + ready_after
    one = worker(1, WorkerState.READY, started_at=started, ready_at=ready, ended_at=ended)
    edges = sorted({0.0, *cuts, 40_000.0})
    parts = [part for a, b in pairwise(edges) for part in time_of(one, since=a, until=b, price=price)]
    end = 40_000.0 if ended is None else ended
    assert sum(usage.started_s for _, usage in parts) == pytest.approx(end - started, abs=1e-6)
    ready_s = 0.0 if ready is None else max(0.0, end - ready)
    assert sum(usage.ready_s for _, usage in parts) == pytest.approx(ready_s, abs=1e-6)
    assert sum(usage.cost for _, usage in parts) == pytest.approx((price or 0.0) * (end - started) / 3600, abs=1e-6)
    assert all(0 <= usage.started_s <= 3600 + 1e-6 for _, usage in parts)
    by_hour: dict[int, float] = {}
    for hour, usage in parts:
        by_hour[hour] = by_hour.get(hour, 0.0) + usage.started_s
    assert all(total <= 3600 + 1e-6 for total in by_hour.values())

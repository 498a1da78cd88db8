"""Leasing before slots are free: as much as is begun within moments, each in its turn, and never kept for long."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_halls import BY, Hall, run
from simulation import virtual
from stoker.domain.endpoint import EndpointId
from stoker.domain.task import TaskState
from stoker.queue.ahead import AHEAD_MAX, AHEAD_S, PATIENCE_S, Ahead, Turn

E = EndpointId("e")


def on_a_loop(body: object) -> None:
    virtual.run(body)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("per_s", "least", "most"),
    [
        pytest.param(0.5, 0, 0, id="tasks that take seconds are not leased before there is a slot"),
        pytest.param(1_000, 40, 55, id="of a thousand a second, what fifty milliseconds take"),
        pytest.param(100_000, AHEAD_MAX, AHEAD_MAX, id="never more than the bound"),
    ],
)
def test_how_many_are_wanted_follows_the_pace(per_s: float, least: int, most: int) -> None:
    ahead: Ahead[int] = Ahead()
    now = 0.0
    for n in range(int(2 * per_s) or 1):
        now = n / per_s
        ahead.ended(E, now)
    assert least <= ahead.wanted(E, now) <= most
    assert ahead.wanted(E, now + 5) == 0, "a pause, and the pace is forgotten"
    ahead.drop_old(now + 60)
    assert ahead.wanted(E, now) == 0


def test_it_goes_further_ahead_where_leasing_is_slow_but_not_without_end() -> None:
    ahead: Ahead[int] = Ahead()
    for n in range(200):
        ahead.ended(E, n / 200)
    usual = ahead.wanted(E, 1.0)
    for took_s, least, most in ((0.01, usual, usual), (0.1, 2.5 * usual, 4.5 * usual), (9.0, 7 * usual, 11 * usual)):
        for _ in range(20):
            ahead.leased(took_s)
        assert least <= ahead.wanted(E, 1.0) <= most


@given(st.lists(st.floats(0.0, 10.0), max_size=300))
def test_no_more_is_wanted_than_the_pace_of_the_last_moments_allows(gaps: list[float]) -> None:
    ahead: Ahead[int] = Ahead()
    now = 0.0
    for gap in gaps:
        now += gap
        ahead.ended(E, now)
    assert 0 <= ahead.wanted(E, now) <= min(AHEAD_MAX, len(gaps) * AHEAD_S / 0.25)


def test_turns_come_in_order_and_only_as_many_as_there_are_slots() -> None:
    async def body() -> None:
        ahead: Ahead[str] = Ahead()
        turns = [ahead.wait(E, name, 0.0) for name in "abc"]
        assert ahead.take(E, 2) == 0
        assert [turn.came.done() for turn in turns] == [True, True, False]
        again = ahead.wait(E, "a", 0.0, first=True)
        assert ahead.take(E, 1) == 0
        assert again.came.result()
        assert not turns[2].came.done()
        assert ahead.take(E, 5) == 4, "what nobody wants is left"
        assert ahead.endpoints() == ()

    on_a_loop(body())


def test_what_is_given_up_hears_that_there_will_be_no_turn() -> None:
    async def body() -> None:
        ahead: Ahead[str] = Ahead()
        turns: dict[str, Turn[str]] = {
            name: ahead.wait(E, name, at) for name, at in (("a", 0.0), ("b", 0.0), ("c", 9.0))
        }
        ahead.drop("b", E)
        assert not await turns["b"].came
        ahead.drop_old(PATIENCE_S)
        assert not await turns["a"].came
        assert ahead.waiting(E) == 1
        ahead.drop_all(E)
        assert not await turns["c"].came

    on_a_loop(body())


async def _hurried(hall: Hall) -> None:
    """Many quick tasks have just ended; what is submitted from now on takes long."""
    hall.gateways.slots, hall.gateways.takes_s = 8, 0.0
    for n in range(60):
        await hall.submit(f"quick-{n}")
    for n in range(60):
        await hall.ended(f"quick-{n}")
    hall.gateways.slots, hall.gateways.takes_s = 1, 1_000.0
    hall.dispatcher.freed(hall.fleet.endpoints()[0].id, 1)


def test_a_slot_that_came_free_while_another_was_refused_is_not_forgotten(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        endpoint = hall.fleet.endpoints()[0].id
        begin = hall.gateways.begin
        refused = []

        async def begin_late(holder: str, task: object, body: bytes) -> object:
            sight = await begin(holder, task, body)  # type: ignore[arg-type]
            if sight.reason == "busy":
                # The gateway says that it has a slot now before its refusal has arrived.
                refused.append(task)
                hall.gateways.slots = 8
                hall.dispatcher.freed(endpoint, 8)
                await asyncio.sleep(0.01)
            return sight

        hall.gateways.begin = begin_late  # type: ignore[assignment, method-assign]
        hall.gateways.slots = 1
        hall.gateways.takes_s = 5.0
        await asyncio.sleep(0.5)
        hall.dispatcher.freed(endpoint, 2)
        began = asyncio.get_running_loop().time()
        for id in "abc":
            await hall.submit(id)
        await asyncio.sleep(0.1)
        assert len(refused) == 1
        assert len(hall.gateways.begun) == 3, "nobody waits for the look of every second"
        assert asyncio.get_running_loop().time() - began < 0.2

    run(tmp_path, body)


def test_what_waits_for_its_turn_is_given_back_as_if_it_had_never_been_leased(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await _hurried(hall)
        for n in range(8):
            await hall.submit(f"t{n}")
        await asyncio.sleep(0.02)
        leased = [await hall.state(f"t{n}") for n in range(8)]
        assert leased.count(TaskState.RUNNING) > 1, "more are leased than run"
        await asyncio.sleep(PATIENCE_S * 3)
        tasks = [await hall.get(f"t{n}") for n in range(8)]
        queued = [task for task in tasks if task.state is TaskState.QUEUED]
        assert (len(queued), len(hall.gateways.running())) == (7, 1)
        assert {(task.attempts, task.deliveries, task.started_at) for task in queued} == {(0, 0, None)}

    run(tmp_path, body)


def test_a_task_that_waits_for_its_turn_can_be_cancelled_and_was_never_attempted(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await _hurried(hall)
        for n in range(8):
            await hall.submit(f"t{n}")
        await asyncio.sleep(0.02)
        waiting = [n for n in range(8) if (await hall.get(f"t{n}")).state is TaskState.RUNNING][1:]
        assert waiting, "more are leased than run"
        await hall.tasks.cancel(BY, "e", f"t{waiting[0]}")
        ended = await hall.ended(f"t{waiting[0]}")
        assert (ended.state, ended.attempts) == (TaskState.CANCELLED, 0)
        assert await hall.tasks.attempts(ended) == ()

    run(tmp_path, body)

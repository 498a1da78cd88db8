"""The one loop: ticks, wakes, failures, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from simulation import virtual
from stoker.control.loop import BACKOFF_FIRST_S, BACKOFF_MAX_S, Loop, backoff_s


class Steps:
    """Remembers when it was made a step; fails the first `failing` times, and takes `takes_s`."""

    def __init__(self, *, failing: int = 0, takes_s: float = 0.0) -> None:
        self.at: list[float] = []
        self.failing = failing
        self.takes_s = takes_s

    async def __call__(self) -> None:
        self.at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes_s)
        if len(self.at) <= self.failing:
            raise RuntimeError("no")


def running(loop: Loop, body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        task = asyncio.create_task(loop.run())
        await body()
        assert not task.done(), "it ends only when it is told to"
        task.cancel()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 100)

    virtual.run(main())


def test_it_steps_at_once_and_then_every_period() -> None:
    steps = Steps()
    running(Loop("l", steps, period_s=2.0), lambda: asyncio.sleep(5))
    assert steps.at == [0, 2, 4]


def test_a_wake_makes_a_step_at_once() -> None:
    steps = Steps()
    loop = Loop("l", steps, period_s=100.0)

    async def body() -> None:
        await asyncio.sleep(3)
        loop.wake()
        loop.wake()
        await asyncio.sleep(50)

    running(loop, body)
    assert steps.at == [0, 3]


def test_wakes_during_a_step_make_one_more_after_it() -> None:
    steps = Steps(takes_s=10)
    loop = Loop("l", steps, period_s=100.0)

    async def body() -> None:
        for _ in range(5):
            await asyncio.sleep(1)
            loop.wake()
        await asyncio.sleep(60)

    running(loop, body)
    assert steps.at == [0, 10]


def test_failures_do_not_end_it_and_their_pauses_grow() -> None:
    steps = Steps(failing=6)
    running(Loop("l", steps, period_s=1.0), lambda: asyncio.sleep(60))
    pauses = [after - before for before, after in zip(steps.at, steps.at[1:], strict=False)]
    for failures, pause in enumerate(pauses[:6], start=1):
        assert BACKOFF_FIRST_S * 2 ** (failures - 1) / 2 <= pause <= BACKOFF_FIRST_S * 2 ** (failures - 1)
    assert set(map(round, pauses[6:])) == {1}, "and then it goes on as ever"


def test_pauses_have_an_upper_limit() -> None:
    assert all(BACKOFF_MAX_S / 2 <= backoff_s(failures) <= BACKOFF_MAX_S for failures in (20, 1_000, 10**9))


def test_it_ends_when_cancelled_though_it_is_woken_at_the_same_moment() -> None:
    async def main() -> None:
        steps = Steps()
        loop = Loop("l", steps, period_s=100.0)
        task = asyncio.create_task(loop.run())
        await asyncio.sleep(1)
        loop.wake()
        # The wake is on its way now: the cancellation must not be lost over it.
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=1_000)
        assert task.cancelled()

    virtual.run(main())

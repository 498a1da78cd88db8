"""An event loop on virtual time: when nothing can run, the clock jumps to the next timer. Hours pass in seconds."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")

# Tests start at a plain moment of 2026, so that stored times look like times.
EPOCH = 1_780_000_000.0


# Below the limit of one test, whose alarm would end whatever task it happens to meet, and none of the others.
REAL_S_MAX = 100.0


class Deadlock(Exception):
    """Everything waits and no timer is set."""


class Overdue(Exception):
    """It takes too long on the real clock."""


class _JumpingSelector(selectors.DefaultSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        # Beside its own pipe the loop has nothing to poll, unless somebody uses real sockets.
        found = super().select(0) if len(self.get_map()) > 1 else []
        if found or timeout == 0:
            return found
        if timeout is None:
            raise Deadlock("nothing will ever happen again")
        if time.monotonic() > self.loop.real_end:
            raise Overdue(f"at {self.loop.now:g} s of virtual time")
        self.loop.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` moves only by jumps; `wall()` is the same as seconds since the epoch."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self
        self.now = 0.0
        self.real_end = time.monotonic() + REAL_S_MAX

    def time(self) -> float:
        return self.now

    # Work for threads is done at once: otherwise the clock would run on, as far as chance has it, until it is done.
    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001 - handed to the caller
            future.set_exception(exc)
        return future

    def wall(self) -> float:
        """What a clock on the wall would show."""
        return EPOCH + self.now


def run(main: Coroutine[Any, Any, T], *, limit_s: float = 1_000_000.0, real_s_max: float = REAL_S_MAX) -> T:
    """Run to the end on virtual time, which may take at most `limit_s` of it, and `real_s_max` of the real one."""
    loop = VirtualLoop()
    loop.real_end = time.monotonic() + real_s_max
    try:
        return loop.run_until_complete(asyncio.wait_for(main, limit_s))
    finally:
        loop.real_end = float("inf")
        loop.run_until_complete(_end(asyncio.all_tasks(loop)))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _end(left: set[asyncio.Task[Any]]) -> None:
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def wall() -> float:
    """The running virtual loop's clock."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.wall()

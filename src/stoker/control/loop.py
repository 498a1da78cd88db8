"""The one way in which control does things again and again: on a tick or a wake, with back-off after a failure.

One failure never ends the loop, and a stopped loop leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import structlog

from stoker.domain.pauses import doubled

log = structlog.get_logger(__name__)

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 30.0


class Loop:
    """Runs `step` every `period_s`, and at once after `wake`."""

    def __init__(self, name: str, step: Callable[[], Awaitable[None]], *, period_s: float) -> None:
        self._name = name
        self._step = step
        self._period_s = period_s
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Run the next step now; wakes during a step make one more step after it."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            self._wake.clear()
            try:
                await self._step()
            except Exception as exc:
                failures += 1
                pause_s = backoff_s(failures)
                log.error("loop_step_failed", loop=self._name, error=str(exc), retry_s=round(pause_s, 2), exc_info=True)
                await asyncio.sleep(pause_s)
                continue
            failures = 0
            # Not `wait_for`, which in Python 3.11 loses a cancellation that comes together with the wake.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._period_s):
                    await self._wake.wait()


def backoff_s(failures: int) -> float:
    """The pause after so many failures in a row, in seconds: doubling, between a half and all of it, at random."""
    return doubled(BACKOFF_FIRST_S, failures, max_s=BACKOFF_MAX_S) * random.uniform(0.5, 1.0)

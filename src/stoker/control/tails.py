"""The last output of workers that were seen to have ended, which says more than an exit code. For passes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from stoker.control.managed import Providers
from stoker.domain.errors import StokerError
from stoker.domain.worker import Worker, WorkerId, WorkerState

log = structlog.get_logger(__name__)

# Output shown with a failure: enough for a traceback's end, not enough to drown the message.
TAIL_LINES = 8
TAIL_CHARS_MAX = 2_000
TAIL_WAIT_S = 2.0


async def tails_of(providers: Providers, workers: Iterable[Worker]) -> dict[WorkerId, str]:
    """By worker, of those that have ended without being asked to. What cannot be read in time is empty."""
    tails: dict[WorkerId, str] = {}
    for worker in workers:
        managed = providers.get(worker.provider)
        sight = managed.observer.sight(worker.id)
        if sight is None or sight.observed is None or sight.observed.running:
            continue
        if worker.state is WorkerState.STOPPING:
            continue
        lines: list[str] = []
        try:
            async with asyncio.timeout(TAIL_WAIT_S):
                read = managed.provider.logs(worker.id, tail=TAIL_LINES, follow=False)
                lines.extend([line.text async for line in read])
        except (TimeoutError, OSError, StokerError) as exc:
            log.warning("tail_failed", worker=worker.id, error=str(exc))
        tails[worker.id] = "\n".join(lines)[-TAIL_CHARS_MAX:]
    return tails

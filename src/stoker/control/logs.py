"""Output of an endpoint's workers as one stream: merged by time, following replacements, bounded in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from stoker.control.fleet import Fleet
from stoker.control.managed import Providers
from stoker.domain.endpoint import EndpointId
from stoker.domain.views import LogEntry
from stoker.domain.worker import Worker, WorkerId
from stoker.store import workers as worker_rows

# Workers whose output makes up the tail of an endpoint's log: all that live, and the newest ones.
WORKERS_MERGED_MAX = 20
# Lines between the workers and a slow reader; when it is full the workers' files wait, nothing is lost.
QUEUE_LINES_MAX = 1_000
# How many of a worker's last lines are read to find the place from where to follow it: more when these do not reach
# back to it, since it has said much meanwhile.
WINDOW_LINES = 1_000
WINDOW_LINES_MAX = 10_000_000
# How often somebody who follows an endpoint looks for new workers.
LOOK_S = 0.5


class Logs:
    """Reads through the providers, which keep the output."""

    def __init__(self, fleet: Fleet, providers: Providers) -> None:
        self._fleet = fleet
        self._providers = providers

    async def of_worker(
        self, worker: Worker, *, tail: int, follow: bool, since: float | None = None
    ) -> AsyncGenerator[LogEntry, None]:
        """The last `tail` lines of one worker, of those from `since` on; then with `follow` those that come until it
        has ended.
        """
        provider = self._providers.get(worker.provider).provider
        async for line in provider.logs(worker.id, tail=tail, follow=follow):
            if since is None or line.at >= since:
                yield LogEntry(at=line.at, worker=worker.id, stream=line.stream, text=line.text)

    async def of_endpoint(
        self, endpoint: EndpointId, *, tail: int, follow: bool, since: float | None = None
    ) -> AsyncGenerator[LogEntry, None]:
        """The last `tail` lines of all its workers by time, of those from `since` on; then with `follow` those that
        come, from workers that start later as well, until the reader goes or the endpoint is deleted.
        """
        newest = await self._fleet.store.read(
            lambda tx: worker_rows.of_endpoint(tx, endpoint, limit=WORKERS_MERGED_MAX)
        )
        held = self._fleet.workers(endpoint)
        # They have said all they will. The others may end while their lines are read.
        ended = frozenset(worker.id for worker in (*newest, *held) if worker.gone)
        live = [worker for worker in held if not worker.gone]
        lines: list[LogEntry] = []
        last: dict[WorkerId, float] = {}
        for worker in {worker.id: worker for worker in (*newest, *live)}.values():
            # One line at least: where following it begins.
            own = [line async for line in self.of_worker(worker, tail=max(tail, 1), follow=False)]
            last[worker.id] = own[-1].at if own else 0.0
            lines = sorted([*lines, *own], key=lambda line: line.at)[-max(tail, 1) :]
        for line in lines if tail else ():
            if since is None or line.at >= since:
                yield line
        if follow:
            async for line in self._following(endpoint, last, ended):
                yield line

    async def _following(
        self, endpoint: EndpointId, last: dict[WorkerId, float], ended: frozenset[WorkerId]
    ) -> AsyncGenerator[LogEntry, None]:
        queue: asyncio.Queue[LogEntry] = asyncio.Queue(QUEUE_LINES_MAX)
        tasks: dict[WorkerId, asyncio.Task[None]] = {}
        try:
            while self._fleet.endpoint(endpoint) is not None or not queue.empty():
                # Those that came and went between two looks have said something too.
                workers = self._fleet.workers(endpoint)
                for worker in workers:
                    # Until its start is acknowledged there may be nothing to follow, which would look like its end.
                    if worker.acknowledged_at is not None and worker.id not in tasks and worker.id not in ended:
                        # A worker that was in the tail goes on after its last line there, a new one begins.
                        after = last.get(worker.id, 0.0)
                        tasks[worker.id] = asyncio.create_task(self._feed(worker, after, queue))
                _drop_finished(tasks, {worker.id for worker in workers})
                try:
                    async with asyncio.timeout(LOOK_S):
                        entry = await queue.get()
                except TimeoutError:
                    continue
                yield entry
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _feed(self, worker: Worker, after: float, queue: asyncio.Queue[LogEntry]) -> None:
        window = WINDOW_LINES if after else WINDOW_LINES_MAX
        while not await self._feed_from(worker, after, queue, window):
            window = min(WINDOW_LINES_MAX, window * 10)

    async def _feed_from(self, worker: Worker, after: float, queue: asyncio.Queue[LogEntry], window: int) -> bool:
        """Every line after that time, once: no two of a worker have the same. False when the window of its last lines
        does not reach back so far, and what lies between would be lost.
        """
        reaches = window >= WINDOW_LINES_MAX
        async with aclosing(self.of_worker(worker, tail=window, follow=True)) as lines:
            async for line in lines:
                if line.at <= after:
                    reaches = True
                    continue
                if not reaches:
                    return False
                await queue.put(line)
        return True


def _drop_finished(tasks: dict[WorkerId, asyncio.Task[None]], known: set[WorkerId]) -> None:
    """Forget the readers of workers that are forgotten themselves and so do not come again."""
    for worker in [worker for worker, task in tasks.items() if task.done() and worker not in known]:
        del tasks[worker]

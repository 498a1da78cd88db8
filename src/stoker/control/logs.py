"""Output of an endpoint's workers as one stream: merged by time, following replacements, bounded in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from stoker.control.fleet import Fleet
from stoker.control.managed import Providers
from stoker.domain.endpoint import EndpointId
from stoker.domain.views import LogEntry
from stoker.domain.worker import Worker, WorkerId
from stoker.store import workers as worker_rows

# Workers whose output makes up the tail of an endpoint's log: the newest ones.
WORKERS_MERGED_MAX = 20
# Lines between the workers and a slow reader; when it is full the workers' files wait, nothing is lost.
QUEUE_LINES_MAX = 1_000
# How often somebody who follows an endpoint looks for new workers.
LOOK_S = 0.5


class Logs:
    """Reads through the providers, which keep the output."""

    def __init__(self, fleet: Fleet, providers: Providers) -> None:
        self._fleet = fleet
        self._providers = providers

    async def _workers(self, endpoint: EndpointId) -> tuple[Worker, ...]:
        return await self._fleet.store.read(lambda tx: worker_rows.of_endpoint(tx, endpoint, limit=WORKERS_MERGED_MAX))

    async def of_worker(self, worker: Worker, *, tail: int, follow: bool) -> AsyncIterator[LogEntry]:
        """The last `tail` lines of one worker, then with `follow` those that come until it has ended."""
        provider = self._providers.get(worker.provider).provider
        async for line in provider.logs(worker.id, tail=tail, follow=follow):
            yield LogEntry(at=line.at, worker=worker.id, stream=line.stream, text=line.text)

    async def of_endpoint(self, endpoint: EndpointId, *, tail: int, follow: bool) -> AsyncIterator[LogEntry]:
        """The last `tail` lines of all its newest workers by time, then with `follow` those that come, from workers
        that start later as well, until the reader goes or the endpoint is deleted.
        """
        workers = await self._workers(endpoint)
        # They have said all they will. The others may end while their lines are read.
        ended = frozenset(worker.id for worker in (*workers, *self._fleet.workers(endpoint)) if worker.gone)
        # One line at least of each: where following them begins.
        least = max(tail, 1)
        lines = [line for worker in workers async for line in self.of_worker(worker, tail=least, follow=False)]
        lines.sort(key=lambda line: line.at)
        for line in lines[-tail:] if tail else []:
            yield line
        if follow:
            last = {worker.id: max((e.at for e in lines if e.worker == worker.id), default=0.0) for worker in workers}
            async for line in self._following(endpoint, last, ended):
                yield line

    async def _following(
        self, endpoint: EndpointId, last: dict[WorkerId, float], ended: frozenset[WorkerId]
    ) -> AsyncIterator[LogEntry]:
        queue: asyncio.Queue[LogEntry] = asyncio.Queue(QUEUE_LINES_MAX)
        tasks: dict[WorkerId, asyncio.Task[None]] = {}
        try:
            while self._fleet.endpoint(endpoint) is not None or not queue.empty():
                # Those that came and went between two looks have said something too.
                workers = self._fleet.workers(endpoint)
                for worker in workers:
                    # Until its start is acknowledged there may be nothing to follow, which would look like its end.
                    if worker.acknowledged_at is not None and worker.id not in tasks and worker.id not in ended:
                        # A worker that was in the tail goes on after its last line there.
                        after = last.get(worker.id)
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

    async def _feed(self, worker: Worker, after: float | None, queue: asyncio.Queue[LogEntry]) -> None:
        async for line in self.of_worker(worker, tail=QUEUE_LINES_MAX, follow=True):
            if after is None or line.at > after:
                await queue.put(line)


def _drop_finished(tasks: dict[WorkerId, asyncio.Task[None]], known: set[WorkerId]) -> None:
    """Forget the readers of workers that are forgotten themselves and so do not come again."""
    for worker in [worker for worker, task in tasks.items() if task.done() and worker not in known]:
        del tasks[worker]

"""Output of an endpoint's workers as one stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from simulation import virtual
from simulation.virtual import wall
from simulation.world import World, spec, world
from stoker.control.logs import QUEUE_LINES_MAX, WINDOW_LINES
from stoker.domain.endpoint import Endpoint
from stoker.domain.views import LogEntry


def run(body: Callable[[World, Endpoint], Awaitable[None]]) -> None:
    async def main() -> None:
        async with world() as w:
            endpoint = await w.create(spec(low=1))
            await asyncio.sleep(10)
            await body(w, endpoint)

    virtual.run(main())


class Follower:
    """Reads along, and may be slow."""

    def __init__(self, w: World, endpoint: Endpoint, *, tail: int = 100, pause_s: float = 0.0) -> None:
        self.entries: list[LogEntry] = []
        self._pause_s = pause_s
        self.task = asyncio.create_task(self._read(w, endpoint, tail))

    async def _read(self, w: World, endpoint: Endpoint, tail: int) -> None:
        async for entry in w.stoker.services.logs.of_endpoint(endpoint.id, tail=tail, follow=True):
            self.entries.append(entry)
            await asyncio.sleep(self._pause_s)

    @property
    def texts(self) -> list[str]:
        return [entry.text for entry in self.entries]

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def test_a_worker_that_comes_and_goes_between_two_looks_is_heard_all_the_same() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        follower = Follower(w, endpoint)
        await asyncio.sleep(0.55)
        [old] = list(w.provider.workers)
        w.provider.say(old, "old")
        w.provider.crash(old)
        heard = set()
        for _ in range(4_000):
            # Each new worker says why it cannot start, and is gone at once.
            for worker, found in list(w.provider.workers.items()):
                if worker != old and found.exit is None:
                    w.provider.say(worker, f"{worker} cannot start")
                    w.provider.crash(worker)
                    heard.add(f"{worker} cannot start")
            await asyncio.sleep(0.005)
        await asyncio.sleep(2)
        assert len(heard) >= 3
        assert set(follower.texts) == {"old", *heard}
        assert len(follower.texts) == len(set(follower.texts))
        await follower.leave()

    run(body)


def test_what_ended_long_ago_is_not_told_again() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        [old] = list(w.provider.workers)
        w.provider.say(old, "old")
        w.provider.crash(old)
        await asyncio.sleep(20)
        follower = Follower(w, endpoint, tail=0)
        [new] = list(w.provider.workers)
        await asyncio.sleep(2)
        w.provider.say(new, "new")
        await asyncio.sleep(2)
        assert follower.texts == ["new"]
        await follower.leave()

    run(body)


def test_a_slow_reader_loses_nothing() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        [worker] = list(w.provider.workers)
        follower = Follower(w, endpoint, pause_s=0.01)
        await asyncio.sleep(1)
        expected = [f"line {number}" for number in range(2 * QUEUE_LINES_MAX)]
        for text in expected:
            w.provider.say(worker, text)
        await asyncio.sleep(60)
        assert follower.texts == expected
        await follower.leave()

    run(body)


def test_many_workers_are_merged_by_time() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        other = await w.create(spec("other", low=3))
        await asyncio.sleep(10)
        workers = [worker.id for worker in w.workers(other.id)]
        for round_ in range(3):
            for worker in workers:
                w.provider.say(worker, f"{round_}")
                await asyncio.sleep(0.1)
        entries = [e async for e in w.stoker.services.logs.of_endpoint(other.id, tail=5, follow=False)]
        assert [entry.text for entry in entries] == ["1", "1", "2", "2", "2"]
        assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)

    run(body)


def test_lines_of_one_moment_are_each_told_once_across_the_place_where_following_begins() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        [worker] = list(w.provider.workers)
        # Without a pause: all have the same time on the clock.
        for number in range(50):
            w.provider.say(worker, f"before {number}")
        follower = Follower(w, endpoint, tail=10)
        for number in range(50):
            w.provider.say(worker, f"after {number}")
        await asyncio.sleep(5)
        assert follower.texts[0].startswith(("before", "after"))
        assert (
            follower.texts
            == [*(f"before {n}" for n in range(40, 50)), *(f"after {n}" for n in range(50))][-len(follower.texts) :]
        )
        assert len(follower.texts) >= 10
        await follower.leave()

    run(body)


def test_what_is_said_while_a_slow_reader_has_the_tail_is_not_lost() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        [worker] = list(w.provider.workers)
        for number in range(100):
            w.provider.say(worker, f"tail {number}")
        follower = Follower(w, endpoint, pause_s=0.1)
        await asyncio.sleep(1)
        expected = [f"more {number}" for number in range(3 * WINDOW_LINES)]
        for text in expected:
            w.provider.say(worker, text)
        await asyncio.sleep(400)
        assert follower.texts == [*(f"tail {number}" for number in range(100)), *expected]
        await follower.leave()

    run(body)


def test_a_time_leaves_out_what_is_older_and_a_tail_is_of_the_rest() -> None:
    async def body(w: World, endpoint: Endpoint) -> None:
        [worker] = list(w.provider.workers)
        for number in range(5):
            w.provider.say(worker, f"line {number}")
            await asyncio.sleep(10)
        logs, since = w.stoker.services.logs, wall() - 25
        found = [e.text async for e in logs.of_endpoint(endpoint.id, tail=100, follow=False, since=since)]
        assert found == ["line 3", "line 4"]
        found = [e.text async for e in logs.of_endpoint(endpoint.id, tail=1, follow=False, since=since)]
        assert found == ["line 4"]
        live = w.stoker.fleet.live(endpoint.id)[0]
        found = [e.text async for e in logs.of_worker(live, tail=100, follow=False, since=since)]
        assert found == ["line 3", "line 4"]

    run(body)

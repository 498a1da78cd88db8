"""The knobs of the fake provider: what real machines do to a control plane, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from providers.workers import observed, run, spec, texts
from stoker.domain.errors import Unavailable
from stoker.domain.worker import Address, WorkerId
from stoker.providers.fake import LINES_MAX, FakeProvider

A = WorkerId("a")


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_start_can_fail_as_long_as_one_likes() -> None:
    async def main() -> None:
        provider = FakeProvider()
        provider.start_error = Unavailable("no machines")
        with pytest.raises(Unavailable, match="no machines"):
            await provider.start(spec("a", "serve"))
        assert await provider.list() == ()
        provider.start_error = None
        await provider.start(spec("a", "serve"))
        assert provider.starts == ["a"]

    run(main())


def test_a_list_can_fail_and_can_lag() -> None:
    async def main() -> None:
        clock = Clock()
        provider = FakeProvider(clock=clock)
        provider.list_lag_s = 5.0
        await provider.start(spec("a", "serve"))
        clock.now += 4.9
        assert await provider.list() == ()
        clock.now += 0.1
        assert [found.id for found in await provider.list()] == ["a"]
        provider.list_error = Unavailable("no answer")
        with pytest.raises(Unavailable, match="no answer"):
            await provider.list()

    run(main())


@pytest.mark.parametrize(
    ("stop_s", "grace_s", "takes_s"),
    [
        pytest.param(0.0, 10.0, 0.0, id="at once"),
        pytest.param(3.0, 10.0, 3.0, id="within its grace"),
        pytest.param(30.0, 10.0, 10.0, id="killed"),
    ],
)
def test_an_end_takes_its_time_but_no_more_than_the_grace(stop_s: float, grace_s: float, takes_s: float) -> None:
    async def main() -> None:
        clock = Clock()
        provider = FakeProvider(clock=clock)
        provider.stop_s = stop_s
        await provider.start(spec("a", "serve", port=20_000))
        await provider.stop(A, grace_s=grace_s)
        if takes_s:
            clock.now += takes_s - 0.1
            assert await observed(provider, "a") is not None
            assert await provider.listens(A, 20_000)
            clock.now += 0.1
        assert not await provider.listens(A, 20_000)
        assert await provider.list() == ()

    run(main())


def test_of_two_stops_the_shorter_grace_counts() -> None:
    async def main() -> None:
        clock = Clock()
        provider = FakeProvider(clock=clock)
        provider.stop_s = 100.0
        for grace_s in (50.0, 5.0, 60.0):
            await provider.start(spec("a", "serve"))
            await provider.stop(A, grace_s=grace_s)
        clock.now += 5.0
        assert await provider.list() == ()
        assert provider.stops == ["a"] * 3

    run(main())


def test_workers_can_end_as_soon_as_they_start() -> None:
    async def main() -> None:
        provider = FakeProvider(clock=Clock())
        provider.exit_code = 137
        await provider.start(spec("a", "serve"))
        found = await observed(provider, "a")
        assert found is not None
        assert found.exit is not None
        assert (found.running, found.exit.code, found.exit.at) == (False, 137, 1_000.0)

    run(main())


def test_a_worker_can_vanish_without_a_trace() -> None:
    async def main() -> None:
        provider = FakeProvider()
        await provider.start(spec("a", "serve"))
        provider.vanish(A)
        assert await provider.list() == ()
        await provider.stop(A, grace_s=1.0)

    run(main())


def test_a_worker_answers_at_its_address_until_it_is_to_end() -> None:
    async def main() -> None:
        provider = FakeProvider()
        provider.stop_s = 10.0
        address = Address(host="127.0.0.1", port=20_000)
        assert not provider.healthy(address)
        await provider.start(spec("a", "serve", port=20_000))
        found = await observed(provider, "a")
        assert found is not None
        assert found.address == address
        assert provider.healthy(address)
        assert await provider.listens(A, 20_000)
        assert not await provider.listens(A, 20_001)
        await provider.stop(A, grace_s=10.0)
        assert not provider.healthy(address)

    run(main())


def test_what_it_says_is_kept_up_to_a_limit() -> None:
    async def main() -> None:
        provider = FakeProvider()
        await provider.start(spec("a", "serve"))
        for number in range(LINES_MAX + 5):
            provider.say(A, str(number))
        assert await texts(provider, "a", tail=2 * LINES_MAX) == [str(number) for number in range(5, LINES_MAX + 5)]

    run(main())


def test_following_tells_what_is_said_from_then_on() -> None:
    async def main() -> None:
        provider = FakeProvider()
        await provider.start(spec("a", "serve"))
        provider.say(A, "before")
        following = provider.logs(A, tail=0, follow=True)
        coming = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)
        provider.say(A, "after")
        assert (await coming).text == "after"
        provider.say(A, "last")
        provider.crash(A)
        assert [line.text async for line in following] == ["last"]

    run(main())

"""Starts and stops at one provider: in order, bounded, again until done."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from simulation import virtual
from simulation.virtual import wall
from stoker.control.actions import CALLS_AT_ONCE, TRIES_MAX, Actions
from stoker.domain.endpoint import EndpointId
from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.worker import WorkerId, WorkerSpec
from stoker.providers.fake import FakeProvider


class Slow(FakeProvider):
    """Starts take `start_s`; every call is written down when it begins and when it ends."""

    def __init__(self) -> None:
        super().__init__(clock=wall)
        self.start_s = 0.0
        self.stop_error: Exception | None = None
        self.calls: list[tuple[float, str]] = []
        self.under_way = self.most_under_way = 0

    def _note(self, what: str) -> None:
        self.calls.append((asyncio.get_running_loop().time(), what))

    async def start(self, spec: WorkerSpec) -> None:
        self._note(f"start {spec.id}")
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.start_s)
        self.under_way -= 1
        await super().start(spec)
        self._note(f"started {spec.id}")

    async def stop(self, worker: WorkerId, *, grace_s: float) -> None:
        self._note(f"stop {worker}")
        if self.stop_error is not None:
            raise self.stop_error
        await super().stop(worker, grace_s=grace_s)

    @property
    def said(self) -> list[str]:
        return [what for _, what in self.calls]


@dataclass
class Heard:
    """What control was told."""

    acknowledged: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    stopped: int = 0
    said: list[str] = field(default_factory=list)


def run(body: Callable[[Actions, Slow, Heard], Awaitable[None]]) -> None:
    async def main() -> None:
        provider, heard = Slow(), Heard()

        async def acknowledged(worker: WorkerId) -> None:
            heard.acknowledged.append(worker)

        async def refused(worker: WorkerId, why: str) -> None:
            heard.refused[worker] = why

        def stopped() -> None:
            heard.stopped += 1

        def said(worker: WorkerId, text: str) -> None:
            heard.said.append(f"{worker}: {text}")

        actions = Actions(provider, acknowledged=acknowledged, refused=refused, stopped=stopped, said=said)
        await body(actions, provider, heard)
        await actions.close()

    virtual.run(main())


def spec(name: str = "w") -> WorkerSpec:
    return WorkerSpec(id=WorkerId(name), endpoint=EndpointId("e"), name=name, command=("run",))


W = WorkerId("w")


def test_a_confirmed_start_is_acknowledged() -> None:
    async def body(actions: Actions, provider: Slow, heard: Heard) -> None:
        actions.start(spec())
        assert not actions.settled(W)
        await asyncio.sleep(1)
        assert actions.settled(W)
        assert (heard.acknowledged, list(provider.workers)) == ([W], [W])

    run(body)


def test_a_stop_waits_for_the_start_that_is_under_way() -> None:
    async def body(actions: Actions, provider: Slow, heard: Heard) -> None:
        provider.start_s = 5
        actions.start(spec())
        await asyncio.sleep(1)
        actions.stop(W, grace_s=1)
        actions.stop(W, grace_s=1)
        actions.start(spec())
        await asyncio.sleep(20)
        assert provider.said == ["start w", "started w", "stop w"]
        assert heard.stopped == 1
        assert actions.settled(W)

    run(body)


def test_a_stop_before_the_start_was_made_lets_it_not_be_made() -> None:
    async def body(actions: Actions, provider: Slow, heard: Heard) -> None:
        actions.start(spec())
        actions.stop(W, grace_s=1)
        await asyncio.sleep(20)
        assert provider.said == ["stop w"]
        assert heard.acknowledged == []

    run(body)


def test_only_so_many_calls_are_made_at_once() -> None:
    async def body(actions: Actions, provider: Slow, heard: Heard) -> None:
        provider.start_s = 1
        for index in range(3 * CALLS_AT_ONCE):
            actions.start(spec(f"w{index}"))
        await asyncio.sleep(10)
        assert provider.most_under_way == CALLS_AT_ONCE
        assert len(heard.acknowledged) == 3 * CALLS_AT_ONCE

    run(body)


def test_a_provider_that_is_away_is_asked_again_after_growing_pauses() -> None:
    async def body(actions: Actions, provider: Slow, heard: Heard) -> None:
        provider.start_error = Unavailable("away")
        actions.start(spec())
        await asyncio.sleep(10)
        times = [at for at, what in provider.calls if what == "start w"]
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert all(0.1 * 2**n <= pause <= 0.2 * 2**n + 1e-6 for n, pause in enumerate(pauses))
        provider.start_error = None
        await asyncio.sleep(60)
        assert heard.acknowledged == [W]
        assert heard.said == ["w: its start is tried again: away"], "once, for those who wait for it"

    run(body)


def test_a_provider_that_stays_away_is_given_up_in_the_end() -> None:
    async def body(actions: Actions, provider: Slow, heard: Heard) -> None:
        provider.start_error = provider.stop_error = Unavailable("away")
        actions.start(spec())
        actions.stop(WorkerId("other"), grace_s=1)
        await asyncio.sleep(10_000)
        assert provider.said.count("start w") == provider.said.count("stop other") == TRIES_MAX
        assert heard.refused[W].endswith("in 20 tries: away"), "which is what somebody can mend"
        assert heard.stopped == 1, "and control looks again by itself"

    run(body)


@pytest.mark.parametrize("error", [Invalid("no such image"), OSError("no such image")])
def test_a_start_that_can_never_be_is_refused_at_once(error: Exception) -> None:
    async def body(actions: Actions, provider: Slow, heard: Heard) -> None:
        provider.start_error = error
        actions.start(spec())
        await asyncio.sleep(1)
        assert heard.refused == {W: "no such image"}
        assert provider.said == ["start w"]
        assert actions.settled(W)

    run(body)


def test_one_that_fails_in_a_way_nobody_thought_of_is_settled_all_the_same() -> None:
    async def body(actions: Actions, provider: Slow, heard: Heard) -> None:
        provider.start_error = ZeroDivisionError()
        actions.start(spec())
        await asyncio.sleep(1)
        assert actions.settled(W)
        provider.start_error = None
        actions.start(spec())
        await asyncio.sleep(1)
        assert heard.acknowledged == [W]

    run(body)


def test_a_start_waits_for_a_pause_that_is_under_way_and_wakes_what_it_must() -> None:
    async def body(actions: Actions, provider: Slow, heard: Heard) -> None:
        async def pause() -> None:
            await asyncio.sleep(3)
            await provider.pause(W)
            provider.calls.append((0.0, "paused"))

        async def wake() -> None:
            provider.calls.append((0.0, "woken"))

        await provider.start(spec())
        provider.calls.clear()
        actions.pause(W, pause)
        actions.start(spec(), then=wake)
        await asyncio.sleep(5)
        assert provider.said == ["paused", "start w", "started w", "woken"]
        assert (provider.workers[W].paused, heard.acknowledged) == (False, [W])

    run(body)


def test_a_pause_that_cannot_be_is_told_after_its_tries() -> None:
    async def body(actions: Actions, provider: Slow, heard: Heard) -> None:
        async def pause() -> None:
            raise Unavailable("asleep already")

        actions.pause(W, pause)
        await asyncio.sleep(3600)
        assert "could not be kept cold" in heard.refused[W]

    run(body)

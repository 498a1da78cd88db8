"""Snapshots of a provider: what changed, how old, and what a failure proves."""

from __future__ import annotations

import asyncio

from simulation import virtual
from simulation.virtual import wall
from stoker.control.observer import Observer, Snapshot
from stoker.domain.endpoint import EndpointId
from stoker.domain.errors import Unavailable
from stoker.domain.worker import WorkerId, WorkerSpec
from stoker.providers.fake import FakeProvider

A, B = WorkerId("a"), WorkerId("b")


def spec(name: str) -> WorkerSpec:
    return WorkerSpec(id=WorkerId(name), endpoint=EndpointId("e"), name=name, command=("run",))


def test_it_says_which_workers_look_different_from_before() -> None:
    async def main() -> None:
        provider = FakeProvider(clock=wall)
        changes: list[frozenset[WorkerId]] = []

        def seen(name: str, snapshot: Snapshot, changed: frozenset[WorkerId]) -> None:
            assert name == "fake"
            changes.append(changed)

        observer = Observer("fake", provider, clock=wall, seen=seen)
        assert observer.sight(A) is None, "nothing is known before the first list"
        await observer.observe()
        await provider.start(spec("a"))
        await provider.start(spec("b"))
        await observer.observe()
        await observer.observe()
        provider.crash(A, code=3)
        provider.vanish(B)
        await observer.observe()
        assert changes == [frozenset(), {A, B}, frozenset(), {A, B}]
        sight = observer.sight(A)
        assert sight is not None
        assert sight.observed is not None
        assert sight.observed.exit is not None
        assert sight.observed.exit.code == 3
        gone = observer.sight(B)
        assert gone is not None
        assert (gone.observed, gone.begun_at) == (None, wall())

    virtual.run(main())


def test_after_a_stop_it_looks_a_few_times_more_than_its_period_asks_for() -> None:
    async def main() -> None:
        provider, looks = FakeProvider(clock=wall), list[float]()
        begun = wall()
        observer = Observer(
            "fake", provider, clock=wall, seen=lambda *_: looks.append(round(wall() - begun, 3)), period_s=1_000.0
        )
        running = asyncio.create_task(observer.loop.run())
        await asyncio.sleep(10)
        before = len(looks)
        for _ in range(50):
            observer.look_soon()
        await asyncio.sleep(10)
        assert looks[before:] == [10.0, 10.1, 10.3, 10.6], "however many stops were asked for"
        observer.look_soon()
        observer.close()
        await asyncio.sleep(10)
        assert len(looks) == before + 5
        running.cancel()

    virtual.run(main())


def test_a_failed_list_leaves_the_old_snapshot_with_its_age() -> None:
    async def main() -> None:
        provider, told = FakeProvider(clock=wall), 0

        def seen(*_: object) -> None:
            nonlocal told
            told += 1

        observer = Observer("fake", provider, clock=wall, seen=seen)
        await provider.start(spec("a"))
        await observer.observe()
        before = observer.snapshot
        provider.list_error = Unavailable("away")
        provider.vanish(A)
        await observer.observe()
        assert (observer.snapshot is before, told) == (True, 1)

    virtual.run(main())

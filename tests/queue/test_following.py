"""Following a task: states and answers in their order, from any place on, while it runs and after its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from queue_halls import BY, DONE, FakeGateways, Hall, answered, run, the_endpoint
from simulation.virtual import wall
from stoker.domain.errors import Saturated, Unavailable
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import Body, Task, TaskState
from stoker.queue import following
from stoker.queue.attempts import Output, Seen, Sight
from stoker.queue.following import Event

PARTS = (b"data: 1\n\nda", b"ta: 2\n\n", b"data: 3\n\n")
ANSWER = b"".join(PARTS)


def speaking(gateways: FakeGateways, *, cut_after: int = 99) -> None:
    """Workers say one part a second; the first attempt only so many of them."""

    @asynccontextmanager
    async def output(holder: str, lease: str, offset: int) -> AsyncIterator[Output | None]:
        async def pieces() -> AsyncIterator[bytes]:
            began = gateways.attempts[lease][2] - gateways.takes_s
            told = offset
            for number in range(len(PARTS)):
                await asyncio.sleep(max(0.0, began + number + 0.5 - wall()))
                if number >= cut_after and lease.endswith("-1"):
                    raise Unavailable("the connection was cut")
                there = b"".join(PARTS[: number + 1])
                yield there[told:]
                told = max(told, len(there))

        yield Output("text/event-stream", pieces())

    gateways.takes_s = 4.0
    gateways.output = output  # type: ignore[method-assign]
    gateways.script = lambda task: answered(
        200, content_type="text/event-stream", body=Body(size=len(ANSWER), inline=ANSWER)
    )


async def told(hall: Hall, id: str, *, after: str | None = None, limit: int = 99) -> list[Event]:
    events = await hall.tasks.events(BY, "e", id, after=after)
    assert events is not None
    found = []
    async for event in events:
        if event is not None:
            found.append(event)
        if len(found) == limit:
            break
    await events.aclose()
    return found


def said(events: list[Event]) -> list[str]:
    return [event.piece.data if event.piece is not None else str(event.task and event.task.state) for event in events]


def test_states_and_answer_come_in_order_and_again_from_any_place(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        speaking(hall.gateways)
        await hall.tasks.pause(BY, "e")
        await hall.submit("a")
        live = asyncio.create_task(told(hall, "a"))
        await asyncio.sleep(3)
        await hall.tasks.resume(BY, "e")
        events = await live
        assert said(events) == ["queued", "running", "1", "2", "3", "succeeded"]
        for number, event in enumerate(events[2:-1], 2):
            again = await told(hall, "a", after=event.id)
            assert said(again) == said(events[number + 1 :])
            assert [each.id for each in again] == [each.id for each in events[number + 1 :]]
        assert await hall.tasks.events(BY, "e", "a", after=events[-1].id) is None
        assert said(await told(hall, "a", after="nonsense")) == ["1", "2", "3", "succeeded"]

    run(tmp_path, body)


def test_whoever_comes_back_to_the_next_control_misses_nothing(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        speaking(hall.gateways)
        await hall.submit("a")
        first = await told(hall, "a", limit=3)
        hall = await hall.again()
        rest = await told(hall, "a", after=first[-1].id)
        pieces = [event.piece.data for event in (*first, *rest) if event.piece is not None]
        assert pieces == ["1", "2", "3"]
        await hall.crash()

    run(tmp_path, body)


def test_the_answer_of_another_attempt_is_told_from_its_beginning(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        speaking(hall.gateways, cut_after=2)
        whole = hall.gateways.script

        def script(task: Task) -> Sight:
            return whole(task) if task.deliveries > 1 else Sight(seen=Seen.FAILED, reason="worker_failed", worker="w")

        hall.gateways.script = script
        await hall.submit("a")
        texts = [text for text in said(await told(hall, "a")) if text.isdigit()]
        assert texts == ["1", "2", "1", "2", "3"]

    run(tmp_path, body, the_endpoint(RetryPolicy(backoff_s=0.1)))


def test_one_that_waits_says_so_now_and_then_and_followers_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "FOLLOWERS_MAX", 1)

    async def body(hall: Hall) -> None:
        hall.gateways.script = lambda task: DONE
        await hall.tasks.pause(BY, "e")
        await hall.submit("a")
        events = await hall.tasks.events(BY, "e", "a", after=None)
        assert events is not None
        assert (await anext(events)) is not None
        assert (await anext(events)) is None
        other = await hall.tasks.events(BY, "e", "a", after=None)
        assert other is not None
        with pytest.raises(Saturated):
            await anext(other)
        await events.aclose()
        assert len(await told(hall, "a", limit=1)) == 1

    run(tmp_path, body)


def test_at_the_end_of_control_those_who_follow_and_wait_hear_how_things_stand_and_go_on_later(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.tasks.pause(BY, "e")
        await hall.submit("a")
        following = asyncio.create_task(told(hall, "a"))
        waiting = asyncio.create_task(hall.tasks.wait(BY, "e", "a", timeout_s=50))
        await asyncio.sleep(1)
        began = wall()
        hall.ends.let_go()
        assert said(await following) == ["queued"]
        assert (await waiting).state is TaskState.QUEUED
        assert (await hall.tasks.wait(BY, "e", "a", timeout_s=50)).state is TaskState.QUEUED
        assert said(await told(hall, "a")) == ["queued"]
        assert wall() - began < 1.0

    run(tmp_path, body)

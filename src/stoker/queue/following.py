"""Follows a task: its states, and what its worker answers while it does, from any place on, again and again.

Nothing is recorded for it. While an attempt runs, its gateway has the answer so far, whichever control asks; after the
end the result is the answer. Faces call this.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from stoker.domain.errors import Saturated, Unavailable
from stoker.domain.task import Task, TaskState
from stoker.queue.attempts import GatewayGone, Output
from stoker.queue.ends import Ends
from stoker.queue.output import Cutter, Piece
from stoker.queue.spool import Spool

# Each may hold a connection to a gateway.
FOLLOWERS_MAX: Final = 500
# What is not said here (it waits, it begins) is seen after so long.
LOOK_S: Final = 1.0
BEAT_S: Final = 10.0
_PLACE: Final = re.compile(r"(\d{1,9})-(\d{1,18}|end)\Z")


OutputOf = Callable[[str, str, int], AbstractAsyncContextManager[Output | None]]


@dataclass(frozen=True, slots=True)
class Event:
    """`id` is where to go on after it. `task` has changed, or its worker has said `piece`."""

    id: str
    task: Task | None = None
    piece: Piece | None = None


@dataclass(slots=True)
class _Place:
    """How far an answer was told: `delivery` says of which attempt, `offset` in bytes."""

    delivery: int = 0
    offset: int = 0

    def of(self, task: Task) -> int:
        """Where to go on in the task's present attempt."""
        if self.delivery != task.deliveries:
            self.delivery, self.offset = task.deliveries, 0
        return self.offset


class Following:
    """`follow` is what this is for."""

    def __init__(
        self, output: OutputOf, spool: Spool, ends: Ends, whole: Callable[[Task], Awaitable[Task | None]]
    ) -> None:
        """`output(holder, lease, offset)` is an answer while it arrives, as in `Attempts`; `whole(task)` is the task
        with its bodies.
        """
        self._output = output
        self._spool = spool
        self._ends = ends
        self._whole = whole
        self._followers = 0

    async def follow(
        self, get: Callable[[], Awaitable[Task]], *, after: str | None
    ) -> AsyncGenerator[Event | None, None]:
        """Events after the one with the id `after`, until the task has ended or control is to stop; `None` now and
        then, as a sign of life.

        `get()` is the task as it stands. Raises `Saturated` at the first step.
        """
        if self._followers >= FOLLOWERS_MAX:
            raise Saturated(f"{FOLLOWERS_MAX} tasks are followed already")
        self._followers += 1
        try:
            async with contextlib.aclosing(_beating(self._events(get, after))) as events:
                async for event in events:
                    yield event
        finally:
            self._followers -= 1

    async def _events(self, get: Callable[[], Awaitable[Task]], after: str | None) -> AsyncGenerator[Event, None]:
        place, said = _place_of(after), None
        task = await get()
        while not task.state.final:
            if (seen := (task.state, task.attempts, task.deliveries, task.cancelling)) != said:
                said = seen
                yield Event(f"{place.delivery}-{place.offset}", task=task)
            with self._ends.watching(task.number) as ended:
                if task.state is TaskState.RUNNING:
                    async for piece in self._live(task, place.of(task)):
                        place.offset = piece.end
                        yield Event(f"{place.delivery}-{place.offset}", piece=piece)
                task = await get()
                if not task.state.final:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(ended.wait(), LOOK_S)
                    task = await get()
            if self._ends.stopping and not task.state.final:
                return
        whole = await self._whole(task)
        if whole is not None and whole.result is not None:
            async for piece in self._kept(whole, place.of(task)):
                yield Event(f"{task.deliveries}-{piece.end}", piece=piece)
        yield Event(f"{task.deliveries}-end", task=task)

    async def _live(self, task: Task, offset: int) -> AsyncGenerator[Piece, None]:
        assert task.holder is not None
        assert task.lease is not None
        try:
            async with self._output(task.holder, task.lease, offset) as output:
                if output is None:
                    return
                cutter = Cutter(output.content_type, offset)
                async for data in output.pieces:
                    for piece in cutter.feed(data):
                        yield piece
                for piece in cutter.rest():
                    yield piece
        except (GatewayGone, Unavailable):
            # The attempt has failed, or its gateway: what comes of the task is told in its time.
            return

    async def _kept(self, task: Task, offset: int) -> AsyncGenerator[Piece, None]:
        assert task.result is not None
        cutter, skipped = Cutter(task.result_type, offset), 0
        async for data in self._spool.pieces(task.result):
            start = max(0, offset - skipped)
            skipped += len(data)
            for piece in cutter.feed(data[start:]):
                yield piece
        for piece in cutter.rest():
            yield piece


def is_end(after: str | None) -> bool:
    """Has whoever asks for what comes after this heard of the end?"""
    match = _PLACE.match(after or "")
    return match is not None and match[2] == "end"


def _place_of(after: str | None) -> _Place:
    match = _PLACE.match(after or "")
    if match is None or match[2] == "end":
        return _Place()
    return _Place(int(match[1]), int(match[2]))


async def _beating(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event | None, None]:
    """The same, with `None` whenever there was nothing for a while."""
    step: asyncio.Future[Event] | None = None
    try:
        while True:
            step = step or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait([step], timeout=BEAT_S)
            if not done:
                yield None
                continue
            try:
                event = step.result()
            except StopAsyncIteration:
                return
            step = None
            yield event
    finally:
        if step is not None and not step.done():
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
        await events.aclose()

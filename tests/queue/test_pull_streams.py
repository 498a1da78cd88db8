"""What workers that ask for tasks put out bit by bit: kept, followed, bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from queue_halls import BY, Hall, run
from queue_hands import LEASE_S, pulled, ready
from stoker.domain.pulling import JobReport
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import TaskState
from stoker.store import tasks as rows

STREAMED = JobReport(output=b"[]", pieces=())


async def result(hall: Hall, id: str) -> tuple[bytes, str | None]:
    task = await hall.get(id)
    whole = await hall.store.read(lambda tx: rows.whole(tx, task.number))
    assert whole is not None
    assert whole.result is not None
    return whole.result.inline or b"", whole.result_type


def test_what_was_put_out_bit_by_bit_is_the_result_in_lines_and_holds_the_job(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        await hand.take()
        for n in range(6):
            await hand.ping()
            assert await hall.pulls.stream(hand.me(), "t", b"%d" % n)
            assert await hall.pulls.stream(hand.me(), "t", None), "it just says how far it is"
            await asyncio.sleep(LEASE_S / 3)
        await hand.done("t", STREAMED)
        assert not await hall.pulls.stream(hand.me(), "t", b"late")
        assert await result(hall, "t") == (b"0\n1\n2\n3\n4\n5\n", "application/x-ndjson")
        lease = "t1-1"
        assert await hall.streams.read(lease) == b""

    run(tmp_path, body, pulled())


def test_what_a_worker_says_again_at_the_end_goes_before_what_was_heard_of_it(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        await hand.take()
        await hall.pulls.stream(hand.me(), "t", b"1")
        # The second piece has got lost on its way.
        await hand.done("t", JobReport(output=b"[1,2]", pieces=(b"1", b"2")))
        assert (await result(hall, "t"))[0] == b"1\n2\n"

    run(tmp_path, body, pulled())


def test_another_control_goes_on_with_a_stream_and_forgets_those_that_are_over(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        await hand.take()
        await hall.pulls.stream(hand.me(), "t", b"1")
        await hall.streams.append("t99-1", b"1", bytes_max=9)
        hand.hall = later = await hall.again()
        assert await later.streams.read("t99-1") == b""
        await later.pulls.stream(hand.me(), "t", b"2")
        await hand.done("t", STREAMED)
        assert (await result(later, "t"))[0] == b"1\n2\n"
        await later.crash()

    run(tmp_path, body, pulled())


def test_a_stream_is_bounded_and_too_much_of_it_is_a_failure(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t", retries=RetryPolicy(retry_on=()))
        hand = await ready(hall)
        await hand.take()
        for _ in range(3):
            await hall.pulls.stream(hand.me(), "t", b"x" * 400)
        ended = await hall.ended("t")
        assert (ended.state, ended.reason) == (TaskState.FAILED, "the output has more than 1024 bytes")

    run(tmp_path, body, pulled())


def test_a_stream_is_followed_from_any_place_until_its_job_is_over(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        await hand.take()
        lease = (await hall.get("t")).lease or ""

        async def follow(offset: int) -> bytes:
            async with hall.pulls.output(lease, offset) as output:
                return b"" if output is None else b"".join([lines async for lines in output.pieces])

        await hall.pulls.stream(hand.me(), "t", b"1")
        following = [asyncio.create_task(follow(offset)) for offset in (0, 2)]
        for n in (2, 3):
            await asyncio.sleep(1)
            await hall.pulls.stream(hand.me(), "t", b"%d" % n)
        assert not any(each.done() for each in following)
        await hand.done("t", STREAMED)
        assert [await each for each in following] == [b"1\n2\n3\n", b"2\n3\n"]
        assert await follow(0) == b"", "then there is the result"

    run(tmp_path, body, pulled())


@pytest.mark.parametrize("gathers", [False, True])
def test_pieces_are_events_of_their_task_that_can_be_read_again(tmp_path: Path, gathers: bool) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        await hand.take()

        async def told(after: str | None) -> list[tuple[str, str]]:
            events = await hall.tasks.events(BY, "e", "t", after=after)
            assert events is not None
            found = [event async for event in events if event is not None]
            return [(event.id, event.piece.data) for event in found if event.piece is not None]

        following = asyncio.create_task(told(None))
        for n in (1, 2, 3):
            await asyncio.sleep(1)
            await hall.pulls.stream(hand.me(), "t", b"%d" % n)
        await asyncio.sleep(1)
        pieces = (b"1", b"2", b"3") if gathers else ()
        await hand.done("t", JobReport(output=b"[]", pieces=pieces))
        heard = await following
        assert [data for _, data in heard] == ["1", "2", "3"]
        assert await told(None) == heard, "the result is the same"
        assert await told(heard[0][0]) == heard[1:]

    run(tmp_path, body, pulled())


def test_an_attempt_that_failed_is_followed_by_what_the_next_one_puts_out(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        events = await hall.tasks.events(BY, "e", "t", after=None)
        assert events is not None

        async def hear() -> list[str]:
            found = [event async for event in events if event is not None]
            return [event.piece.data for event in found if event.piece is not None]

        following = asyncio.create_task(hear())
        for piece in (b"1", b"2"):
            await hand.take()
            await asyncio.sleep(2)
            await hall.pulls.stream(hand.me(), "t", piece)
            await asyncio.sleep(2)
            await hand.done("t", JobReport(error="no") if piece == b"1" else STREAMED)
        assert await following == ["1", "2"]

    run(tmp_path, body, pulled())

"""Workers that ask for tasks: each job is one worker's at a time; nothing is lost or counted when something dies."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import worker
from queue_halls import BY, Hall, run, the_endpoint
from simulation.virtual import wall
from stoker.control.fleet import Change
from stoker.domain.endpoint import Endpoint, EndpointId, ProjectId
from stoker.domain.errors import Unauthenticated
from stoker.domain.launch import Launch
from stoker.domain.pulling import Job, JobReport
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import Outcome, TaskState
from stoker.domain.usage import By, RequestUsage
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.store import tasks as rows
from stoker.store import usage

E = EndpointId("e")
LEASE_S = 9.0
OK = JobReport(output=b'{"a":1}')


def pulled(**queue: Any) -> Endpoint:
    values = {"pull": True, "lease_s": LEASE_S, "retries": RetryPolicy(backoff_s=1), **queue}
    made = the_endpoint(**values)
    return replace(made, launches={"default": Launch(engine=None, command=("run",), ping_s=3)})


class Hand:
    """A worker, as its package would act, without any network."""

    def __init__(self, hall: Hall, number: int, slots: int = 1) -> None:
        self.hall, self.id, self.slots = hall, WorkerId(f"w{number}"), slots
        self.number = number

    async def set(self, state: WorkerState, **more: Any) -> None:
        """Its state changes."""
        endpoint = self.hall.fleet.endpoint(E)
        assert endpoint is not None
        known = self.hall.fleet.worker(self.id)
        if known is None:
            new = worker(self.number, state, slots=self.slots, ready_at=wall(), **more)
            await self.hall.fleet.commit(Change(endpoint=endpoint, new_workers=[new]))
        else:
            changed = replace(known, state=state, **more)
            await self.hall.fleet.commit(Change(endpoint=endpoint, workers={self.id: changed}))

    def me(self) -> Worker:
        return self.hall.pulls.worker(E, self.id, f"token of {self.id}")

    async def take(self, wanted: int = 1) -> tuple[Job, ...]:
        return await self.hall.pulls.take(self.me(), wanted)

    async def ping(self, *ids: str) -> None:
        await self.hall.pulls.ping(self.me(), ids)

    async def ping_for(self, seconds: float, *ids: str) -> None:
        ends_at = wall() + seconds
        while wall() < ends_at:
            await self.ping(*ids)
            await asyncio.sleep(min(3.0, ends_at - wall()))

    async def done(self, id: str, report: JobReport = OK) -> bool:
        return await self.hall.pulls.done(self.me(), id, report)


async def ready(hall: Hall, number: int = 1, slots: int = 1) -> Hand:
    made = Hand(hall, number, slots)
    await made.set(WorkerState.READY)
    return made


def test_a_job_is_a_task_and_what_comes_of_it_its_result(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hand = await ready(hall)
        taking = asyncio.create_task(hand.take())
        await asyncio.sleep(5)
        began = wall()
        await hall.submit("t")
        [job] = await taking
        assert wall() == began, "whoever waits gets it at once"
        assert (job.id, job.input, job.attempt, job.delivery) == ("t", b"1", 1, 1)
        assert hall.pulls.taken(E) == {"w1": 1}
        assert await hand.done("t")
        ended = await hall.ended("t")
        assert (ended.state, ended.status, ended.attempts, ended.worker) == (TaskState.SUCCEEDED, 200, 1, "w1")
        whole = await hall.store.read(lambda tx: rows.whole(tx, ended.number))
        assert whole is not None
        assert whole.result is not None
        assert (whole.result.inline, whole.result_type) == (b'{"a":1}', "application/json")
        assert hall.pulls.taken(E) == {}
        assert (hall.backlog.queued(E), hall.backlog.running(E)) == (0, 0)
        assert not await hand.done("t"), "said again, as after an answer that got lost"

    run(tmp_path, body, pulled())


def test_nothing_is_sent_to_workers_that_ask(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        await asyncio.sleep(30)
        assert hall.gateways.begun == []
        assert await hall.state("t") is TaskState.QUEUED

    run(tmp_path, body, pulled())


def test_a_question_without_an_answer_is_held_for_a_while(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hand = await ready(hall)
        began = wall()
        assert await hand.take() == ()
        assert wall() - began == 20

    run(tmp_path, body, pulled())


def test_what_workers_have_done_is_counted_once_as_use_of_the_endpoint(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hand = await ready(hall, slots=3)
        for n in range(3):
            await hall.submit(f"t{n}")
        await hand.take(8)
        for id, report in (("t0", OK), ("t0", OK), ("t1", OK), ("t2", JobReport(error="no"))):
            await hand.done(id, report)
        hour = int(wall() // 3_600)
        scope = usage.Scope(project=ProjectId(1), first=hour, end=hour + 1)
        used = await hall.store.read(lambda tx: usage.requests_by(tx, scope, By.ENDPOINT))
        assert used == {"e": RequestUsage(requests=3, errors=1)}

    run(tmp_path, body, pulled())


def test_takes_are_slots_and_batches_fill_them(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        for n in range(5):
            await hall.submit(f"t{n}")
        hand = await ready(hall, slots=3)
        assert [job.id for job in await hand.take(8)] == ["t0", "t1", "t2"]
        taking = asyncio.create_task(hand.take(8))
        await hand.ping_for(5, "t0", "t1", "t2")
        assert not taking.done(), "it has no slot left"
        await hand.done("t1")
        assert [job.id for job in await taking] == ["t3"]
        assert hall.backlog.running(E) == 3

    run(tmp_path, body, pulled())


def test_who_asked_first_goes_first_and_nobody_gets_what_another_has(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hands = [await ready(hall, number) for number in (1, 2, 3)]
        takes = []
        for hand in hands:
            takes.append(asyncio.create_task(hand.take()))
            await asyncio.sleep(0.1)
        for n in range(2):
            await hall.submit(f"t{n}")
        found = [await take for take in takes[:2]]
        assert [[job.id for job in jobs] for jobs in found] == [["t0"], ["t1"]]
        assert not takes[2].done()

    run(tmp_path, body, pulled())


def test_only_a_worker_that_is_ready_gets_jobs_and_asking_makes_it_so(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = Hand(hall, 1)
        await hand.set(WorkerState.STARTING)
        taking = asyncio.create_task(hand.take())
        await asyncio.sleep(3)
        assert hall.told == [("w1", "ready")]
        assert not taking.done()
        await hand.set(WorkerState.READY)
        assert [job.id for job in await taking] == ["t"]
        await hand.done("t")
        await hall.submit("next")
        await hand.set(WorkerState.DRAINING)
        assert await hand.take() == (), "one that drains finishes what it has"

    run(tmp_path, body, pulled())


def test_a_worker_that_is_to_stop_is_let_go_at_once(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hand = await ready(hall)
        taking, stopping = asyncio.create_task(hand.take()), asyncio.create_task(hall.pulls.stops(hand.me()))
        await asyncio.sleep(1)
        began = wall()
        await hand.set(WorkerState.STOPPING)
        assert (await taking, await stopping, wall() - began) == ((), (), 0.0)
        assert await hand.take() == ()

    run(tmp_path, body, pulled())


@pytest.mark.parametrize("token", ["", "token of w2", None])
def test_a_worker_shows_its_own_token(tmp_path: Path, token: str | None) -> None:
    async def body(hall: Hall) -> None:
        hand = await ready(hall)
        await ready(hall, 2)
        with pytest.raises(Unauthenticated):
            hall.pulls.worker(E, hand.id, token)
        with pytest.raises(Unauthenticated):
            hall.pulls.worker("another", hand.id, f"token of {hand.id}")
        await hand.set(WorkerState.FAILED)
        with pytest.raises(Unauthenticated):
            hand.me()

    run(tmp_path, body, pulled())


def test_a_worker_of_an_endpoint_that_is_sent_tasks_has_no_token(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        with pytest.raises(Unauthenticated):
            (await ready(hall)).me()

    run(tmp_path, body)


def test_an_error_is_a_failed_attempt_with_its_text_and_is_tried_again(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        for attempt in (1, 2, 3):
            [job] = await hand.take()
            assert job.attempt == attempt
            await hand.done("t", JobReport(error='{"error_type": "<class \'KeyError\'>", "error_message": "voice"}'))
        ended = await hall.ended("t")
        assert (ended.state, ended.status, ended.attempts) == (TaskState.FAILED, 500, 3)
        assert ended.reason == "KeyError: voice, after 3 attempts"
        whole = await hall.store.read(lambda tx: rows.whole(tx, ended.number))
        assert whole is not None
        assert whole.result is not None
        assert json.loads(whole.result.inline or b"")["error"].startswith('{"error_type"')

    run(tmp_path, body, pulled())


def test_a_worker_that_ends_loses_its_jobs_at_once_and_that_is_an_attempt(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand, other = await ready(hall), await ready(hall, 2)
        await hand.take()
        await hand.ping_for(6, "t")
        lost_at = wall()
        await hand.set(WorkerState.FAILED, reason="killed by signal 9")
        [job] = await other.take()
        assert (job.attempt, job.delivery) == (2, 2)
        assert wall() - lost_at <= 2, "its pause, and no lease to wait for"
        await other.done("t")
        first, second = await hall.tasks.attempts(await hall.ended("t"))
        assert (first.outcome, first.worker, first.reason) == (
            Outcome.BROKEN,
            "w1",
            "its worker ended: killed by signal 9",
        )
        assert (second.outcome, second.worker) == (Outcome.ANSWERED, "w2")

    run(tmp_path, body, pulled())


def test_a_silent_worker_loses_its_jobs_when_its_lease_is_over_and_is_replaced(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand, other = await ready(hall), await ready(hall, 2)
        await hand.take()
        silent_since = wall()
        taking = asyncio.create_task(other.take())
        while not taking.done():
            await other.ping_for(1)
        jobs = await taking
        assert jobs[0].attempt == 2
        assert LEASE_S <= wall() - silent_since <= LEASE_S + 4
        assert [(who, why[:18]) for who, why in hall.told] == [("w1", "it has not pinged ")]
        assert not await hand.done("t"), "what it says then is of no account"
        await other.done("t", JobReport(output=b"2"))
        ended = await hall.ended("t")
        assert (ended.worker, ended.attempts) == ("w2", 2)

    run(tmp_path, body, pulled())


def test_a_job_that_its_worker_does_not_have_costs_no_attempt(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        await hand.take()
        await hand.ping_for(LEASE_S + 2)
        [job] = await hand.take()
        assert (job.attempt, job.delivery) == (1, 2)
        assert await hall.tasks.attempts(await hall.get("t")) == ()

    run(tmp_path, body, pulled())


def test_an_attempt_takes_no_longer_than_it_may_and_its_worker_is_told(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t", execution_timeout_s=20, retries=RetryPolicy(attempts_max=1))
        hand = await ready(hall)
        await hand.take()
        stopping = asyncio.create_task(hall.pulls.stops(hand.me()))
        await hand.ping_for(19, "t")
        assert await hall.state("t") is TaskState.RUNNING
        await hand.ping_for(2, "t")
        ended = await hall.ended("t")
        assert (ended.state, ended.reason) == (TaskState.FAILED, "total_timeout")
        assert (await hall.tasks.attempts(ended))[0].outcome is Outcome.TIMED_OUT
        assert "t" in (await stopping or await hall.pulls.stops(hand.me()))

    run(tmp_path, body, pulled())


def test_a_cancelled_job_is_final_as_soon_as_its_worker_has_given_it_up(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        await hand.take()
        await hand.ping("t")
        stopping = asyncio.create_task(hall.pulls.stops(hand.me()))
        await asyncio.sleep(0.1)
        assert (await hall.tasks.cancel(BY, "e", "t")).cancelling
        assert await stopping == ("t",)
        await hand.ping("t")
        assert await hall.state("t") is TaskState.RUNNING
        await hand.ping()
        assert await hall.state("t") is TaskState.CANCELLED

    run(tmp_path, body, pulled())


def test_a_cancelled_job_is_final_after_a_while_whatever_its_worker_does(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        await hand.take()
        await hall.tasks.cancel(BY, "e", "t")
        await hand.ping_for(LEASE_S + 2, "t")
        assert await hall.state("t") is TaskState.CANCELLED
        assert not await hand.done("t")
        assert await hall.state("t") is TaskState.CANCELLED

    run(tmp_path, body, pulled())


def test_an_answer_that_was_there_before_a_cancelling_took_effect_counts(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        await hand.take()
        await hall.tasks.cancel(BY, "e", "t")
        assert await hand.done("t")
        assert await hall.state("t") is TaskState.SUCCEEDED

    run(tmp_path, body, pulled())


def test_who_hangs_up_while_it_waits_gets_nothing_and_nothing_is_lost(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hand, other = await ready(hall), await ready(hall, 2)
        taking = asyncio.create_task(hand.take())
        await asyncio.sleep(1)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await hall.submit("t")
        [job] = await other.take()
        assert (job.attempt, job.delivery) == (1, 1)

    run(tmp_path, body, pulled())


def test_who_hangs_up_in_the_moment_of_the_answer_loses_nothing_either(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        for turn in range(12):
            hand, other = await ready(hall), await ready(hall, 2)
            taking = asyncio.create_task(hand.take())
            await asyncio.sleep(1)
            await hall.submit(f"t{turn}")
            for _ in range(turn):
                await asyncio.sleep(0)
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
            if taking.cancelled():
                [job] = await other.take()
                await other.done(job.id)
            else:
                await hand.done(f"t{turn}")
            ended = await hall.ended(f"t{turn}")
            assert (ended.state, ended.attempts) == (TaskState.SUCCEEDED, 1)
        assert (hall.backlog.queued(E), hall.backlog.running(E), hall.pulls.taken(E)) == (0, 0, {})

    run(tmp_path, body, pulled())


def test_another_control_goes_on_with_what_workers_have(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        for n in range(2):
            await hall.submit(f"t{n}")
        hand = await ready(hall, slots=2)
        await hand.take(2)
        hand.hall = later = await hall.again()
        assert later.pulls.taken(E) == {"w1": 2}
        assert later.backlog.running(E) == 2
        await hand.ping("t0", "t1")
        assert await hand.done("t0")
        # Its word of this one was lost with the control that it was said to.
        await hand.ping_for(LEASE_S + 2)
        [job] = await hand.take()
        assert (job.id, job.attempt) == ("t1", 1)
        await hand.done("t1")
        assert [(await later.ended(f"t{n}")).attempts for n in range(2)] == [1, 1]
        await later.crash()

    run(tmp_path, body, pulled())


def test_what_a_control_was_to_cancel_is_cancelled_by_the_next(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        await hand.take()
        await hall.tasks.cancel(BY, "e", "t")
        hand.hall = later = await hall.again()
        assert await later.pulls.stops(hand.me()) == ("t",)
        await hand.ping()
        assert await later.state("t") is TaskState.CANCELLED
        await later.crash()

    run(tmp_path, body, pulled())


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


def test_a_worker_that_asks_to_be_replaced_is(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        hand = await ready(hall)
        await hand.take()
        await hand.done("t", JobReport(output=b"1", recycle=True))
        assert hall.told == [("w1", "it asked to be replaced")]

    run(tmp_path, body, pulled())


def test_a_batch_carries_no_more_than_an_answer_should(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        for n in range(3):
            draft = hall.draft(f"t{n}", b'"' + b"x" * (9 * 2**20) + b'"')
            await hall.tasks.submit(BY, "e", draft)
        hand = await ready(hall, slots=3)
        assert [job.id for job in await hand.take(3)] == ["t0"]
        assert [job.id for job in await hand.take(3)] == ["t1"]
        assert hall.backlog.queued(E) == 1

    run(tmp_path, body, pulled())


def test_a_paused_queue_hands_out_nothing(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        await hall.tasks.pause(BY, "e")
        hand = await ready(hall)
        assert await hand.take() == ()
        await hall.tasks.resume(BY, "e")
        assert len(await hand.take()) == 1

    run(tmp_path, body, pulled())


STEPS = st.lists(st.tuples(st.sampled_from(["take", "done", "fail", "die", "restart", "wait"]), st.integers(0, 2)))


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_whatever_happens_every_task_ends_once_and_runs_nowhere_twice(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Workers take, answer, hang up, die and are replaced, and control is restarted, in any order."""

    async def body(first: Hall) -> None:
        hall = first
        for n in range(4):
            await hall.submit(f"t{n}", retries=RetryPolicy(attempts_max=100, backoff_s=0.1))
        hands = [await ready(hall, number) for number in (1, 2, 3)]
        has: dict[WorkerId, str] = {}
        number = 3
        for what, which in steps:
            hand = hands[which]
            if what == "take" and hand.id not in has:
                taking = asyncio.create_task(hand.take())
                await asyncio.sleep(0.5)
                if taking.done():
                    [job] = taking.result()
                    assert job.id not in has.values(), "two workers have it under leases that hold"
                    has[hand.id] = job.id
                else:
                    taking.cancel()
                    await asyncio.gather(taking, return_exceptions=True)
            elif what in ("done", "fail") and hand.id in has:
                assert await hand.done(has.pop(hand.id), OK if what == "done" else JobReport(error="no"))
            elif what == "die":
                has.pop(hand.id, None)
                await hand.set(WorkerState.FAILED)
                number += 1
                hands[which] = await ready(hall, number)
            elif what == "restart":
                hall = await hall.again()
                for each in hands:
                    each.hall = hall
            for each in hands:
                await each.ping(*([has[each.id]] if each.id in has else []))
            await asyncio.sleep(1)
        for hand in hands:
            if hand.id in has:
                await hand.done(has[hand.id])
        while not all([(await hall.get(f"t{n}")).state.final for n in range(4)]):
            for job in await hands[0].take():
                await hands[0].done(job.id)
        assert {await hall.state(f"t{n}") for n in range(4)} == {TaskState.SUCCEEDED}
        assert (hall.backlog.queued(E), hall.backlog.running(E), hall.pulls.taken(E)) == (0, 0, {})
        if hall is not first:
            await hall.crash()

    run(tmp_path_factory.mktemp("pulls"), body, pulled())

"""Workers that ask for tasks: each job is one worker's at a time, and nothing is lost or counted twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queue_halls import BY, Hall, run
from queue_hands import LEASE_S, OK, E, Hand, pulled, ready
from simulation.virtual import wall
from stoker.domain.endpoint import ProjectId
from stoker.domain.errors import Unauthenticated
from stoker.domain.pulling import JobReport
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import TaskState
from stoker.domain.usage import By, RequestUsage
from stoker.domain.worker import WorkerId, WorkerState
from stoker.store import tasks as rows
from stoker.store import usage


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

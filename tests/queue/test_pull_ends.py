"""How jobs of workers that ask for tasks end: errors, silence, time, cancelling. Each is one attempt at most."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from queue_halls import BY, Hall, run
from queue_hands import LEASE_S, pulled, ready
from simulation.virtual import wall
from stoker.domain.pulling import JobReport
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import Outcome, TaskState
from stoker.domain.worker import WorkerState
from stoker.store import tasks as rows


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


@pytest.mark.parametrize("how", ["cancelled", "too long", "of another control"])
def test_a_worker_that_never_gives_up_a_job_that_is_over_is_replaced(tmp_path: Path, how: str) -> None:
    async def body(hall: Hall) -> None:
        hand = await ready(hall)
        if how != "of another control":
            await hall.submit("t", execution_timeout_s=20, retries=RetryPolicy(attempts_max=1))
            await hand.take()
            if how == "cancelled":
                await hall.tasks.cancel(BY, "e", "t")
            await hand.ping_for(LEASE_S + 1 if how == "cancelled" else 21, "t")
            assert (await hall.state("t")).final
        await hand.ping_for(LEASE_S - 2, "t")
        assert hall.told == []
        await hand.ping_for(6, "t")
        why = "it goes on with jobs that were cancelled or took too long, and asks for no others"
        assert hall.told == [("w1", why)]

    run(tmp_path, body, pulled())


def test_a_worker_with_a_slot_left_is_not_replaced_for_the_other_one(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hand = await ready(hall, slots=2)
        await hand.ping_for(3 * LEASE_S, "gone")
        assert hall.told == []
        await hand.ping_for(3, "gone", "too")
        await hand.ping_for(LEASE_S, "too")
        assert hall.told == [], "it has let go of the first one"

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

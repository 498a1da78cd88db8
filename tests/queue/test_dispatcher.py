"""Handing out tasks: within free slots, each to its end, and nothing lost or counted when something dies."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from queue_halls import BY, DONE, Hall, answered, run, the_endpoint
from simulation.virtual import wall
from stoker.domain.errors import Conflict
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import Outcome, Task, TaskState
from stoker.queue.attempts import Seen, Sight
from stoker.store import tasks as rows
from stoker.store.tables import deliveries


def test_tasks_run_within_free_slots_and_their_results_are_acknowledged(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        for n in range(10):
            await hall.submit(f"t{n}")
        ended = [await hall.ended(f"t{n}") for n in range(10)]
        assert {(task.state, task.attempts, task.worker) for task in ended} == {(TaskState.SUCCEEDED, 1, "w")}
        assert len(hall.gateways.acknowledged) == 10
        assert hall.gateways.busy == 0, "no more is leased than there is room for"
        assert (hall.backlog.queued(hall.fleet.endpoints()[0].id), hall.dispatcher.running) == (0, 0)
        started = [task.started_at for task in ended]
        assert started == sorted(started)  # type: ignore[type-var]

    run(tmp_path, body)


def test_a_task_that_finds_a_free_slot_is_leased_as_it_is_kept_and_one_that_finds_others_waits(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hall.gateways.takes_s = 1_000
        states = []
        for id in ("first", "second", "third"):
            await hall.submit(id)
            # Nothing else has run since it was kept.
            states.append(await hall.state(id))
        assert states == [TaskState.RUNNING, TaskState.RUNNING, TaskState.QUEUED], "there are two slots"
        await asyncio.sleep(0.1)
        assert [task.id for task in hall.gateways.begun] == ["first", "second"]
        hall.gateways.slots = 3
        hall.dispatcher.freed(hall.fleet.endpoints()[0].id, 1)
        late = await hall.submit("late")
        assert (late.state, await hall.state("late")) == (TaskState.QUEUED, TaskState.QUEUED), "the third comes first"
        await asyncio.sleep(0.1)
        assert [task.id for task in hall.gateways.begun][2:] == ["third"]

    run(tmp_path, body)


def test_what_is_refused_takes_no_slot_from_the_next(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hall.gateways.slots = 1
        await hall.submit("t")
        await hall.ended("t")
        await asyncio.sleep(0.1)
        with pytest.raises(Conflict):
            await hall.tasks.submit(BY, "e", hall.draft("t", b"2"))
        again = await hall.tasks.submit(BY, "e", hall.draft("t", b"1"))
        assert not again.created
        await hall.submit("next")
        assert await hall.state("next") is TaskState.RUNNING
        await hall.tasks.pause(BY, "e")
        await hall.submit("later")
        assert await hall.state("later") is TaskState.QUEUED

    run(tmp_path, body)


def test_a_task_that_goes_again_before_its_last_attempt_is_acknowledged_is_counted_once(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        endpoint, acknowledge = hall.fleet.endpoints()[0].id, hall.gateways.acknowledge

        async def late(holder: str, lease: str) -> None:
            # As that of a gateway that dies just then.
            await asyncio.sleep(20)
            await acknowledge(holder, lease)

        hall.gateways.acknowledge = late  # type: ignore[method-assign]
        hall.gateways.slots = 10
        hall.gateways.script = lambda task: DONE if task.attempts else answered(503)
        await hall.submit("a")
        await asyncio.sleep(2)
        # What waits beside it has the store asked for more, which may find this one.
        hall.gateways.slots = 20
        for n in range(15):
            await hall.submit(f"t{n}")
            await asyncio.sleep(0.3)
        for id in ("a", *(f"t{n}" for n in range(15))):
            assert (await hall.ended(id)).attempts == 2
        await asyncio.sleep(30)
        demand = hall.backlog.demand(endpoint, wall())
        assert (demand.queued, demand.running, hall.dispatcher.running) == (0, 0, 0)
        assert len(hall.gateways.acknowledged) == 32

    run(tmp_path, body, the_endpoint(RetryPolicy(attempts_max=3, backoff_s=0.1)))


def test_a_refusal_is_no_attempt_and_the_task_goes_later(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hall.gateways.slots = 0
        await asyncio.sleep(0.5)
        hall.dispatcher.freed(hall.fleet.endpoints()[0].id, 5)
        await hall.submit("t")
        await asyncio.sleep(0.1)
        task = await hall.get("t")
        assert hall.gateways.busy == 1
        assert (task.state, task.attempts, task.deliveries, task.started_at) == (TaskState.QUEUED, 0, 0, None)
        hall.gateways.slots = 1
        assert (await hall.ended("t")).attempts == 1

    run(tmp_path, body)


def test_an_attempt_that_found_its_worker_gone_is_none_and_the_next_one_has_another_id(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        gone = Sight(seen=Seen.REFUSED, reason="worker_unavailable")
        hall.gateways.script = lambda task: gone if task.deliveries < 3 else DONE
        await hall.submit("t")
        ended = await hall.ended("t")
        assert (ended.state, ended.attempts) == (TaskState.SUCCEEDED, 1)
        assert [task.lease for task in hall.gateways.begun] == [f"t{ended.number}-{n}" for n in (1, 2, 3)]
        assert hall.gateways.attempts == {}, "all are acknowledged"

    run(tmp_path, body)


def test_failed_attempts_are_made_again_after_a_pause_until_there_were_enough(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hall.gateways.script = lambda task: answered(503 if task.id == "bad" else 422)
        began = asyncio.get_running_loop().time()
        await hall.submit("bad")
        await hall.submit("wrong")
        bad, wrong = await hall.ended("bad"), await hall.ended("wrong")
        assert (bad.state, bad.attempts, bad.status) == (TaskState.FAILED, 3, 503)
        assert (wrong.state, wrong.attempts, wrong.status) == (TaskState.FAILED, 1, 422)
        # Two pauses of three quarters of 10 and 20 seconds, and three attempts of one second.
        assert asyncio.get_running_loop().time() - began >= 3 + 7.5 + 15
        tried = await hall.tasks.attempts(bad)
        assert [(each.number, each.outcome, each.status) for each in tried] == [
            (n, Outcome.ANSWERED, 503) for n in (1, 2, 3)
        ]

    run(tmp_path, body, the_endpoint(RetryPolicy(backoff_s=10, attempts_max=3)))


@pytest.mark.parametrize(
    ("sight", "state", "attempts"),
    [
        (Sight(seen=Seen.FAILED, reason="worker_failed"), TaskState.FAILED, 2),
        (Sight(seen=Seen.FAILED, reason="total_timeout"), TaskState.FAILED, 1),
        (Sight(seen=Seen.FAILED, reason="result_too_long"), TaskState.FAILED, 2),
        (answered(302), TaskState.SUCCEEDED, 1),
    ],
)
def test_what_becomes_of_an_attempt_decides(tmp_path: Path, sight: Sight, state: TaskState, attempts: int) -> None:
    async def body(hall: Hall) -> None:
        hall.gateways.script = lambda task: sight
        await hall.submit("t")
        ended = await hall.ended("t")
        assert (ended.state, ended.attempts) == (state, attempts)

    run(tmp_path, body, the_endpoint(RetryPolicy(backoff_s=0, attempts_max=2)))


def test_the_next_control_goes_on_with_what_the_last_one_left(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hall.gateways.takes_s = 30
        for n in range(3):
            await hall.submit(f"t{n}")
        await asyncio.sleep(5)
        hall = await hall.again()
        await asyncio.sleep(60)
        ended = [await hall.ended(f"t{n}") for n in range(3)]
        assert [(task.attempts, task.deliveries) for task in ended] == [(1, 1)] * 3
        assert len(hall.gateways.begun) == 3, "what a gateway has is not begun again"

    run(tmp_path, body)


def test_what_dies_with_its_gateway_is_made_again_and_cost_no_attempt(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hall.gateways.takes_s = 10
        await hall.submit("t")
        await asyncio.sleep(5)
        hall.gateways.kill("a-1.sock")
        hall.gateways.names = ("a-2.sock",)
        ended = await hall.ended("t")
        assert (ended.state, ended.attempts, ended.deliveries) == (TaskState.SUCCEEDED, 1, 2)

    run(tmp_path, body, the_endpoint(RetryPolicy(attempts_max=1)))


def test_gateways_that_die_all_the_time_are_given_up_some_day(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hall.gateways.dead.add("a-1.sock")
        await hall.submit("t")
        ended = await hall.ended("t")
        assert (ended.state, ended.attempts) == (TaskState.FAILED, 0)
        assert "lost 20 times" in ended.reason

    run(tmp_path, body)


def test_a_running_task_is_cancelled_by_this_control_or_the_next(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hall.gateways.takes_s = 1_000
        for id in ("now", "later"):
            await hall.submit(id)
        await asyncio.sleep(2)
        assert (await hall.tasks.cancel(BY, "e", "now")).cancelling
        assert (await hall.ended("now")).state is TaskState.CANCELLED
        later = await hall.get("later")
        await hall.store.write(lambda tx: rows.ask_to_cancel(tx, later))
        hall = await hall.again()
        assert (await hall.ended("later")).state is TaskState.CANCELLED
        assert len(hall.gateways.aborted) == 2

    run(tmp_path, body)


def test_an_answer_that_was_there_before_the_cancellation_counts(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await hall.submit("t")
        await asyncio.sleep(0.5)
        task = await hall.get("t")
        await hall.store.write(lambda tx: rows.ask_to_cancel(tx, task))
        assert (await hall.ended("t")).state is TaskState.SUCCEEDED

    run(tmp_path, body)


def test_large_results_lie_in_files_until_their_task_is_forgotten(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        kept = await hall.spool.keep(b"y" * 200_000)
        hall.gateways.script = lambda task: answered(200, body=kept)
        await hall.submit("t")
        await hall.ended("t")
        _, pieces = await hall.tasks.result(BY, "e", "t")
        assert b"".join([piece async for piece in pieces]) == b"y" * 200_000
        await asyncio.sleep(200)
        assert os.listdir(tmp_path) == []

    run(tmp_path, body, the_endpoint(retention_s=100))


@pytest.mark.parametrize("seed", range(4))
def test_whatever_dies_every_task_ends_once_and_runs_once_at_a_time(tmp_path: Path, seed: int) -> None:
    """Controls and gateways die at random; workers fail at random."""
    chance = random.Random(seed)

    async def body(hall: Hall) -> None:
        fates: dict[str, Sight] = {}

        def script(task: Task) -> Sight:
            choices = [DONE] * 6 + [answered(500), Sight(seen=Seen.FAILED, reason="worker_failed")]
            return fates.setdefault(task.lease or "", chance.choice(choices))

        hall.gateways.script, hall.gateways.slots = script, 4
        ids = [f"t{n}" for n in range(60)]
        for id in ids:
            await hall.submit(id)
        finals: dict[str, TaskState] = {}
        for number in range(2, 14):
            await asyncio.sleep(chance.uniform(0.1, 5))
            if chance.random() < 0.5:
                hall = await hall.again()
            else:
                hall.gateways.kill(hall.gateways.names[0])
                hall.gateways.names = (f"a-{number}.sock",)
            for id in ids:
                task = await hall.get(id)
                assert finals.get(id, task.state) is task.state, "a final state never changes"
                if task.state.final:
                    finals[id] = task.state
        for id in ids:
            ended = await hall.ended(id)
            assert finals.get(id, ended.state) is ended.state
            assert ended.attempts <= 5
            tried = await hall.tasks.attempts(ended)
            assert [each.number for each in tried] == list(range(1, ended.attempts + 1))
        assert await hall.store.read(lambda tx: tx.execute(deliveries.select()).all()) == []
        assert await hall.store.read(rows.running) == ()

    run(tmp_path, body, the_endpoint(RetryPolicy(attempts_max=5, backoff_s=1)))

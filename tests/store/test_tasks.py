"""What every store promises of tasks: leased once, in order, ended once, and forgotten only when nothing needs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from stoker.domain.access import Sealed
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import Body, Delivery, KeptKey, Outcome, Task, TaskNumber, TaskState, WebhookSpec
from stoker.store import deliveries, tasks
from stoker.store.base import Store
from stoker.store.hot import base as hot
from stoker.store.hot.base import EndRow, Lease
from store.places import Place

E = EndpointId("e")


def a_task(id: str, **more: Any) -> Task:
    values: dict[str, Any] = {
        "number": TaskNumber(0),
        "id": id,
        "endpoint": E,
        "project": ProjectId(1),
        "state": TaskState.QUEUED,
        "priority": 0,
        "method": "POST",
        "target": "/run?a=1",
        "headers": (("X-A", "b"),),
        "content_type": "application/json",
        "input": Body(size=2, inline=b"\x00\xff"),
        "digest": "d",
        "retries": RetryPolicy(attempts_max=5),
        "execution_timeout_s": 60.0,
        "retention_s": 100.0,
        "created_at": 10.0,
        "not_before": 10.0,
        "webhook": WebhookSpec(url="https://example.com", secret="s"),
        "expires_at": 50.0,
        **more,
    }
    return Task(**values)


def lease(now: float = 11.0, limit: int = 10) -> Lease:
    return Lease(E, now, limit, "a-1.sock", now + 60)


def end(task: Task, state: TaskState = TaskState.SUCCEEDED, **more: Any) -> EndRow:
    assert task.lease is not None
    row = EndRow(
        number=task.number,
        lease=task.lease,
        state=state.value,
        not_before=task.not_before,
        ended_at=20.0 if state.final else None,
        forget_at=120.0 if state.final else None,
        attempts=task.attempts + 1,
        status=200,
        worker="w",
        reason="",
        result_type="text/plain",
        result_size=1,
        result_file=None,
        result=b"\x00",
        outcome=Outcome.ANSWERED.value,
        began_at=11.0,
        at=20.0,
    )
    return row._replace(**more)


def add(tx: Connection, *made: Task) -> list[int]:
    return tasks.add(tx, made)


def test_what_was_added_is_found_as_it_was_with_its_number(place: Place) -> None:
    async def body(store: Store) -> None:
        made = [a_task(f"t{n}") for n in range(3)]
        numbers = await store.write(lambda tx: add(tx, *made))
        assert numbers == sorted(numbers)
        found = await store.read(lambda tx: tasks.whole(tx, TaskNumber(numbers[1])))
        assert found == replace(made[1], number=TaskNumber(numbers[1]))
        shown = await store.read(lambda tx: tasks.find(tx, E, "t1"))
        assert shown == replace(made[1], number=TaskNumber(numbers[1]), input=Body(size=2))
        assert await store.read(lambda tx: tasks.known(tx, E, ["t0", "t9"])) == {
            "t0": await store.read(lambda tx: tasks.find(tx, E, "t0"))
        }

    place.run(body)


def test_tasks_are_leased_by_priority_then_age_once_and_none_too_soon_or_too_late(place: Place) -> None:
    async def body(store: Store) -> None:
        made = [
            a_task("old"),
            a_task("urgent", priority=5),
            a_task("later", not_before=30.0),
            a_task("expired", expires_at=11.0),
            a_task("new", expires_at=None),
            a_task("other", endpoint=EndpointId("f")),
        ]
        await store.write(lambda tx: add(tx, *made))
        first = await store.write(lambda tx: tasks.lease(tx, lease(limit=2)))
        assert [task.id for task in first] == ["urgent", "old"]
        assert {task.state for task in first} == {TaskState.RUNNING}
        assert first[0].lease == f"t{first[0].number}-1"
        assert (first[0].holder, first[0].lease_until, first[0].started_at) == ("a-1.sock", 71.0, 11.0)
        assert first[0].input.inline == b"\x00\xff"
        assert [task.id for task in await store.write(lambda tx: tasks.lease(tx, lease()))] == ["new"]
        assert [task.id for task in await store.write(lambda tx: tasks.lease(tx, lease(now=31.0)))] == ["later"]
        gone = await store.read(lambda tx: tasks.expired(tx, now=60.0, limit=9))
        assert [task.id for task in gone] == ["expired", "other"]
        assert {task.id for task in await store.read(tasks.running)} == {"urgent", "old", "new", "later"}

    place.run(body)


def test_an_end_counts_once_and_only_for_the_lease_that_it_is_of(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.write(lambda tx: add(tx, a_task("t")))
        [task] = await store.write(lambda tx: tasks.lease(tx, lease()))
        stale = end(task, lease="t0-0")
        assert await store.write(lambda tx: hot.end_attempts(tx, [stale])) == set()
        assert await store.write(lambda tx: hot.end_attempts(tx, [end(task)])) == {task.number}
        assert await store.write(lambda tx: hot.end_attempts(tx, [end(task, TaskState.FAILED)])) == set()
        found = await store.read(lambda tx: tasks.whole(tx, task.number))
        assert found is not None
        assert (found.state, found.attempts, found.worker, found.lease) == (TaskState.SUCCEEDED, 1, "w", None)
        assert found.result == Body(size=1, inline=b"\x00")
        [attempt] = await store.read(lambda tx: tasks.attempts_of(tx, task.number))
        assert (attempt.number, attempt.outcome, attempt.ended_at) == (1, Outcome.ANSWERED, 20.0)
        ended = await store.write(lambda tx: tasks.end_queued(tx, found, TaskState.EXPIRED, reason="", now=1.0))
        assert not ended, "a final state never changes"

    place.run(body)


def test_a_task_that_is_tried_again_waits_and_one_that_was_lost_made_no_attempt(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.write(lambda tx: add(tx, a_task("again"), a_task("lost")))
        again, lost = await store.write(lambda tx: tasks.lease(tx, lease()))
        rows = [
            end(again, TaskState.QUEUED, not_before=40.0, result=None, result_size=None),
            end(lost, TaskState.QUEUED, attempts=0, outcome=None, result=None, result_size=None),
        ]
        assert await store.write(lambda tx: hot.end_attempts(tx, rows)) == {again.number, lost.number}
        assert await store.read(lambda tx: tasks.attempts_of(tx, lost.number)) == ()
        assert await store.read(lambda tx: tasks.backlogs(tx, now=12.0)) == ({"e": 2}, [(again.number, "e", 40.0)])
        # Time to live counts until the first start alone.
        leased = await store.write(lambda tx: tasks.lease(tx, lease(now=60.0)))
        assert [(task.id, task.attempts, task.deliveries) for task in leased] == [("again", 1, 2), ("lost", 0, 2)]

    place.run(body)


def test_what_was_given_back_is_as_if_it_had_never_been_leased(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.write(lambda tx: add(tx, a_task("t")))
        before = await store.read(lambda tx: tasks.find(tx, E, "t"))
        [task] = await store.write(lambda tx: tasks.lease(tx, lease()))
        await store.write(lambda tx: tasks.give_back(tx, [(task.number, "t0-0")]))
        assert len(await store.read(tasks.running)) == 1
        await store.write(lambda tx: tasks.give_back(tx, [(task.number, task.lease or "")]))
        assert await store.read(lambda tx: tasks.find(tx, E, "t")) == before
        [task] = await store.write(lambda tx: tasks.lease(tx, lease()))
        await store.write(lambda tx: tasks.give_back(tx, [(task.number, task.lease or "")], begun=True))
        [again] = await store.write(lambda tx: tasks.lease(tx, lease()))
        assert (task.lease, again.lease) == (f"t{task.number}-1", f"t{task.number}-2")

    place.run(body)


def test_leases_are_renewed_for_their_holder_alone(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.write(lambda tx: add(tx, a_task("t"), a_task("u")))
        t, u = await store.write(lambda tx: tasks.lease(tx, lease()))
        held = [(int(t.number), t.lease or ""), (int(u.number), "another")]
        assert await store.write(lambda tx: hot.renew_leases(tx, held, 500.0)) == {t.number}
        until = {task.id: task.lease_until for task in await store.read(tasks.running)}
        assert until == {"t": 500.0, "u": 71.0}

    place.run(body)


def test_a_task_that_is_to_be_cancelled_is_not_leased_again(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.write(lambda tx: add(tx, a_task("t")))
        [task] = await store.write(lambda tx: tasks.lease(tx, lease()))
        assert await store.write(lambda tx: tasks.ask_to_cancel(tx, task))
        again = end(task, TaskState.QUEUED, result=None, result_size=None)
        await store.write(lambda tx: hot.end_attempts(tx, [again]))
        assert await store.write(lambda tx: tasks.lease(tx, lease())) == []
        assert [task.id for task in await store.read(tasks.cancelled_meanwhile)] == ["t"]

    place.run(body)


def test_ended_tasks_go_after_their_time_with_their_files_unless_a_webhook_is_on_its_way(place: Place) -> None:
    async def body(store: Store) -> None:
        made = [a_task(id, input=Body(size=9, file=f"file-{id}")) for id in ("told", "telling", "runs")]
        await store.write(lambda tx: add(tx, *made))
        told, telling, _ = await store.write(lambda tx: tasks.lease(tx, lease()))
        await store.write(lambda tx: hot.end_attempts(tx, [end(told), end(telling)]))
        pending = Delivery(
            id="msg_1",
            number=0,
            task=telling.number,
            task_id=telling.id,
            endpoint=E,
            project=ProjectId(1),
            event="task.succeeded",
            url="https://a.example/hook",
            secret="s",
            payload=b"{}",
            created_at=20.0,
            next_at=20.0,
        )
        key = KeptKey(id="k", task=telling.number, sealed=Sealed(text="...", by="m"))
        await store.write(lambda tx: deliveries.add(tx, [pending]))
        await store.write(lambda tx: tasks.add_keys(tx, [key]))
        assert await store.write(lambda tx: tasks.forget(tx, now=119.0, limit=9)) == ([], {})
        assert await store.write(lambda tx: tasks.forget(tx, now=9_999.0, limit=9)) == (
            ["file-told"],
            {("e", TaskState.SUCCEEDED): 1},
        )
        assert await store.read(tasks.files) == {"file-telling", "file-runs"}
        [due] = await store.read(lambda tx: deliveries.due(tx, now=20.0, without=[], limit=9))
        assert due == replace(pending, number=due.number)
        without = ["https://a.example"]
        assert await store.read(lambda tx: deliveries.due(tx, now=20.0, without=without, limit=9)) == ()
        taken = replace(due, state=type(due.state).DELIVERED, tries=1, status=200, ended_at=21.0)
        await store.write(lambda tx: deliveries.save(tx, taken))
        assert await store.read(lambda tx: deliveries.of_task(tx, telling.number)) == (taken,)
        assert await store.read(lambda tx: tasks.key(tx, "k")) is not None
        assert await store.write(lambda tx: tasks.forget(tx, now=9_999.0, limit=9)) == (
            ["file-telling"],
            {("e", TaskState.SUCCEEDED): 1},
        )
        assert await store.read(lambda tx: tasks.key(tx, "k")) is None, "a key stays as long as its task"

    place.run(body)


def test_pages_follow_numbers_and_states(place: Place) -> None:
    async def body(store: Store) -> None:
        numbers = await store.write(lambda tx: add(tx, *(a_task(f"t{n}") for n in range(5))))
        first = await store.read(lambda tx: tasks.page(tx, E, state=None, after=0, limit=2))
        rest = await store.read(lambda tx: tasks.page(tx, E, state=None, after=first[-1].number, limit=9))
        assert [task.number for task in (*first, *rest)] == numbers
        assert await store.read(lambda tx: tasks.page(tx, E, state=TaskState.FAILED, after=0, limit=9)) == ()
        assert await store.read(lambda tx: tasks.oldest_queued(tx, E)) == 10.0
        assert await store.read(tasks.kept) == {}
        leased = await store.write(lambda tx: tasks.lease(tx, lease(limit=3)))
        states = (TaskState.SUCCEEDED, TaskState.SUCCEEDED, TaskState.FAILED)
        ends = [end(task, state) for task, state in zip(leased, states, strict=True)]
        await store.write(lambda tx: hot.end_attempts(tx, ends))
        assert await store.read(tasks.kept) == {("e", TaskState.SUCCEEDED): 2, ("e", TaskState.FAILED): 1}

    place.run(body)

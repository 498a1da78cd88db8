"""Every table has an end: what is past its time goes, a bounded number at once, and nothing else does."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select

from builders import worker as built_worker
from stoker.domain.worker import Worker, WorkerState
from stoker.store import installation, journal
from stoker.store import keys as key_rows
from stoker.store import operations as operation_rows
from stoker.store import workers as worker_rows
from stoker.store.base import Store
from stoker.store.retention import LASTING, RULES, Kept, prune
from stoker.store.tables import events, idempotency, keys, metadata, operations, workers
from store.places import Place
from store.rows import E, P, a_key, an_operation

KEPT = Kept(events=10, decisions=10, workers_s=100, operations_s=200, keys_s=300, idempotency_s=400)


def _worker(number: int, state: WorkerState, released_at: float | None) -> Worker:
    return built_worker(number, state, released_at=released_at)


def _numbers(tx: Connection) -> dict[str, list[int]]:
    return {t.name: list(tx.scalars(select(t.c.number).order_by(t.c.number))) for t in (workers, operations, keys)}


def test_every_table_has_a_rule_or_lasts() -> None:
    assert {*RULES, *LASTING} == set(metadata.tables)
    assert not {*RULES} & {*LASTING}


def test_what_ended_goes_when_its_time_has_passed(place: Place) -> None:
    async def body(store: Store) -> None:
        def fill(tx: Connection) -> None:
            installation.add_default_project(tx, now=0.0)
            for worker in (
                _worker(1, WorkerState.READY, None),
                _worker(2, WorkerState.STOPPED, None),
                _worker(3, WorkerState.FAILED, 899.0),
                _worker(4, WorkerState.STOPPED, 900.0),
            ):
                worker_rows.add(tx, worker)
            for number, ended_at in ((1, None), (2, 799.0), (3, 800.0)):
                operation_rows.add(tx, an_operation(number, ended_at=ended_at), project=P)
            ends = {1: {}, 2: {"revoked_at": 699.0}, 3: {"revoked_at": 700.0}, 4: {"expires_at": 699.0}}
            for number, end in (*ends.items(), (5, {"expires_at": 1e9})):
                key_rows.add(tx, a_key(number, **end))
            for index, at in enumerate((599.0, 600.0)):
                row = {"project": 1, "route": "/r", "key": f"{index}", "digest": "d", "created_at": at}
                tx.execute(insert(idempotency), row)

        await store.write(fill)
        gone = {
            t: await store.write(lambda tx, t=t: prune(tx, t, KEPT, now=1000.0, limit=9))  # type: ignore[misc]
            for t in RULES
        }
        assert gone == {
            "workers": 1,
            "operations": 1,
            "keys": 2,
            "idempotency": 1,
            "events": 0,
            "decisions": 0,
            "audit": 0,
        }
        assert await store.read(_numbers) == {"workers": [1, 2, 4], "operations": [1, 3], "keys": [1, 3, 5]}
        assert await store.read(lambda tx: tx.scalars(select(idempotency.c.key)).all()) == ["1"]

    place.run(body)


def test_the_journal_keeps_its_newest_and_goes_on_counting(place: Place) -> None:
    async def body(store: Store) -> None:
        def fill(tx: Connection) -> None:
            for index in range(25):
                journal.add_event(tx, at=0.0, kind="k", message=f"{index}", endpoint=E)

        await store.write(fill)
        batches = [await store.write(lambda tx: prune(tx, "events", KEPT, now=1000.0, limit=6)) for _ in range(4)]
        assert batches == [6, 6, 3, 0]
        left = await store.read(lambda tx: journal.newest_events(tx, E, limit=99))
        assert [event.message for event in left] == [str(index) for index in range(15, 25)]
        assert await store.write(lambda tx: prune(tx, "events", Kept(events=0), now=1000.0, limit=99)) == 9
        await store.write(lambda tx: journal.add_event(tx, at=0.0, kind="k", message="next", endpoint=E))
        assert await store.read(lambda tx: tx.scalar(select(func.max(events.c.number)))) == left[-1].number + 1

    place.run(body)

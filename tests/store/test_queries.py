"""The queries of every noun, on every store: what is written is read, in the same order, with the same answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from builders import worker as built_worker
from stoker.domain.access import Scope
from stoker.domain.endpoint import EndpointId, Failures, Override, Phase, ProjectId
from stoker.domain.hardware import Placement
from stoker.domain.operation import Decision, Level, OperationId, OperationState
from stoker.domain.worker import Address, Worker, WorkerId, WorkerState
from stoker.store import endpoints, installation, journal, keys, operations, revisions, tables, workers
from stoker.store.base import Store
from stoker.store.hot.base import EventRow
from store.places import Place
from store.rows import a_key, an_endpoint, an_operation

P, Q = ProjectId(1), ProjectId(2)
E = EndpointId("e")
# As long as a reference in digits may be, and beyond what 32 bits hold.
HUGE = "9" * 18
ODD = "0\x00'\"%_\\ é 漢"


async def _begin(store: Store) -> None:
    await store.write(lambda tx: installation.add_default_project(tx, now=0.0))


def test_numbers_are_given_out_once_for_each_kind(place: Place) -> None:
    async def body(store: Store) -> None:
        await _begin(store)
        await _begin(store)
        assert await store.write(lambda tx: installation.next_number(tx, "a", 3)) == 1
        assert await store.write(lambda tx: installation.next_number(tx, "a")) == 4
        assert await store.write(lambda tx: installation.next_number(tx, "b")) == 1
        assert await store.read(lambda tx: installation.peek_number(tx, "a")) == 5
        assert await store.read(lambda tx: installation.peek_number(tx, "c")) == 1
        assert [await store.write(installation.next_term) for _ in range(2)] == [1, 2]
        # Where 32 bits would end.
        await store.write(lambda tx: installation.next_number(tx, "a", 2**31))
        assert await store.write(lambda tx: installation.next_number(tx, "a")) == 2**31 + 5

    place.run(body)


def test_an_endpoint_is_read_as_it_was_written(place: Place) -> None:
    made = an_endpoint(1, "Näme '\"%", failures={"a": Failures(count=2, last_at=1.25), "b": Failures()})

    async def body(store: Store) -> None:
        await _begin(store)
        await store.write(lambda tx: endpoints.add(tx, made))
        assert await store.read(lambda tx: endpoints.get(tx, made.id)) == made
        changed = replace(made, phase=Phase.STOPPED, desired=2, override=Override(workers=2, until=7.5), updated_at=9.0)
        await store.write(lambda tx: endpoints.save(tx, changed))
        assert await store.read(endpoints.everything) == (changed,)
        await store.write(lambda tx: endpoints.remove(tx, made.id))
        await store.write(lambda tx: endpoints.remove(tx, made.id))
        assert await store.read(lambda tx: endpoints.get(tx, made.id)) is None

    place.run(body)


def test_endpoints_are_found_by_id_slug_number_and_exact_name(place: Place) -> None:
    async def body(store: Store) -> None:
        await _begin(store)
        made = [an_endpoint(n, name) for n, name in ((3, "Chat"), (1, "chat"), (2, "a_b"))]
        for each in made:
            await store.write(lambda tx, each=each: endpoints.add(tx, each))  # type: ignore[misc]
        for reference, found in {
            "id-3": 3, "s2": 2, "1": 1, "Chat": 3, "chat": 1, "CHAT": None, "a%b": None, "S2": None,
            HUGE: None, "4294967297": None, ODD: None, "": None,
        }.items():  # fmt: skip
            endpoint = await store.read(lambda tx, r=reference: endpoints.find(tx, r, project=P))  # type: ignore[misc]
            assert (endpoint and endpoint.number) == found, reference
        assert await store.read(lambda tx: endpoints.find(tx, "1", project=Q)) is None
        assert await store.read(lambda tx: endpoints.named(tx, "Chat", project=P)) == "id-3"
        assert await store.read(lambda tx: endpoints.named(tx, "CHAT", project=P)) is None
        page = await store.read(lambda tx: endpoints.page(tx, project=P, after=0, limit=2))
        assert [each.number for each in page] == [1, 2]
        assert await store.read(lambda tx: endpoints.page(tx, project=P, after=int(HUGE), limit=2)) == ()
        assert await store.read(lambda tx: endpoints.free_slug(tx, "s2", 9)) == "s2-9"

    place.run(body)


def test_names_and_slugs_are_unique(place: Place) -> None:
    async def body(store: Store) -> None:
        await _begin(store)
        await store.write(lambda tx: endpoints.add(tx, an_endpoint(1, "a")))
        for twin in (an_endpoint(2, "a"), an_endpoint(2, "b", slug="s1"), an_endpoint(1, "c", id=EndpointId("x"))):
            with pytest.raises(IntegrityError):
                await store.write(lambda tx, twin=twin: endpoints.add(tx, twin))  # type: ignore[misc]
        assert len(await store.read(endpoints.everything)) == 1

    place.run(body)


def test_revisions_are_kept_newest_first_and_pruned(place: Place) -> None:
    async def body(store: Store) -> None:
        made = [replace(an_endpoint(1, "a").as_revision(), number=number) for number in (1, 2, 3, 2**40)]
        for each in made:
            await store.write(lambda tx, each=each: revisions.add(tx, each))  # type: ignore[misc]
        endpoint = made[0].endpoint
        assert await store.read(lambda tx: revisions.of_endpoint(tx, endpoint)) == tuple(reversed(made))
        assert await store.read(lambda tx: revisions.get(tx, endpoint, 2)) == made[1]
        assert await store.read(lambda tx: revisions.get(tx, endpoint, int(HUGE))) is None
        await store.write(lambda tx: revisions.prune(tx, endpoint, before=3, keep={1}))
        await store.write(lambda tx: revisions.prune(tx, endpoint, before=3, keep={1}))
        assert await store.read(lambda tx: revisions.of_endpoint(tx, endpoint)) == (made[3], made[2], made[0])
        await store.write(lambda tx: revisions.prune(tx, endpoint, before=3, keep=()))
        await store.write(lambda tx: revisions.remove_of_endpoint(tx, EndpointId("other")))
        assert len(await store.read(lambda tx: revisions.of_endpoint(tx, endpoint))) == 2
        await store.write(lambda tx: revisions.remove_of_endpoint(tx, endpoint))
        assert await store.read(lambda tx: revisions.of_endpoint(tx, endpoint)) == ()

    place.run(body)


def test_a_worker_is_read_as_it_was_written(place: Place) -> None:
    fresh = built_worker(1, WorkerState.PENDING)
    full = built_worker(
        2,
        WorkerState.READY,
        placement=Placement(host="h", gpus=(0, 3), port=20_000),
        address=Address(host="::1", port=20_000),
        started_at=1.000001,
        from_cold=True,
        acknowledged_at=2.0,
        ready_at=3.0,
        reason="line one\nline two",
        exit_code=-9,
    )

    async def body(store: Store) -> None:
        for each in (fresh, full):
            await store.write(lambda tx, each=each: workers.add(tx, each))  # type: ignore[misc]
            assert await store.read(lambda tx, each=each: workers.get(tx, each.id)) == each  # type: ignore[misc]
        ended = replace(fresh, state=WorkerState.FAILED, ended_at=5.0, reason="x" * 100_000)
        await store.write(lambda tx: workers.save(tx, [ended, replace(full, ready_at=4.0)]))
        assert await store.read(lambda tx: workers.of_endpoint(tx, E, limit=9)) == (replace(full, ready_at=4.0), ended)
        assert await store.read(lambda tx: workers.of_endpoint(tx, E, limit=1)) == (replace(full, ready_at=4.0),)
        assert await store.read(lambda tx: workers.get(tx, WorkerId(ODD))) is None

    place.run(body)


def test_ended_workers_hold_on_until_released(place: Place) -> None:
    def gone(number: int, released_at: float | None, endpoint: str = "e") -> Worker:
        return built_worker(
            number, WorkerState.STOPPED, ended_at=1.0, released_at=released_at, endpoint=EndpointId(endpoint)
        )

    live = built_worker(1, WorkerState.READY)
    made = [live, gone(2, None), gone(3, 50.0), gone(4, 100.0), gone(5, 50.0, "other")]

    async def body(store: Store) -> None:
        for each in made:
            await store.write(lambda tx, each=each: workers.add(tx, each))  # type: ignore[misc]
        held = await store.read(lambda tx: workers.held(tx, released_after=60.0))
        assert [w.number for w in held] == [1, 2, 4]
        await store.write(lambda tx: workers.remove_of_endpoint(tx, E))
        left = await store.read(lambda tx: workers.of_endpoint(tx, E, limit=9))
        assert [w.number for w in left] == [2, 1]
        assert await store.read(lambda tx: workers.get(tx, WorkerId("w5"))) == made[4], "another endpoint's"

    place.run(body)


def test_an_operation_is_read_as_it_was_written_and_ends(place: Place) -> None:
    async def body(store: Store) -> None:
        made = [an_operation(2, workers=3), an_operation(1), an_operation(3, OperationState.SUCCESS, ended_at=10.0)]
        for each in made:
            await store.write(lambda tx, each=each: operations.add(tx, each, project=P))  # type: ignore[misc]
        assert await store.read(operations.pending) == (made[1], made[0])
        ended = replace(made[0], state=OperationState.TIMEOUT, message="too long", ended_at=20.0)
        await store.write(lambda tx: operations.save(tx, ended))
        assert await store.read(lambda tx: operations.get(tx, ended.id, project=P)) == ended
        assert await store.read(lambda tx: operations.get(tx, ended.id, project=Q)) is None
        assert await store.read(lambda tx: operations.get(tx, OperationId(ODD), project=P)) is None
        assert await store.read(operations.pending) == (made[1],)

    place.run(body)


def test_events_are_numbered_in_the_order_of_writing(place: Place) -> None:
    async def body(store: Store) -> None:
        def add(tx: object) -> None:
            for index in range(5):
                journal.add_event(
                    tx,  # type: ignore[arg-type]
                    at=float(index),
                    kind="k",
                    message=f"m{index}",
                    endpoint=E if index != 2 else None,
                    worker=WorkerId("w") if index == 3 else None,
                    level=Level.WARNING if index == 4 else Level.INFO,
                )

        await store.write(add)
        newest = await store.read(lambda tx: journal.newest_events(tx, E, limit=3))
        assert [event.message for event in newest] == ["m1", "m3", "m4"]
        assert newest[-1].level is Level.WARNING
        after = await store.read(lambda tx: journal.events_after(tx, E, after=newest[0].number, limit=1))
        assert after == (newest[1],)
        of_all = await store.read(lambda tx: journal.events_of_all(tx, after=newest[0].number, limit=2))
        assert [(event.message, event.endpoint) for event in of_all] == [("m2", None), ("m3", E)]
        assert await store.read(lambda tx: journal.events_after(tx, E, after=2**63 - 1, limit=1)) == ()

    place.run(body)


def test_many_events_at_once_are_as_those_one_by_one(place: Place) -> None:
    rows = [EventRow(float(n), "e", None if n % 2 else "w", "warning", "k", f"{n} {ODD}") for n in range(300)]

    async def body(store: Store) -> None:
        await store.write(lambda tx: journal.add_events(tx, []))
        await store.write(lambda tx: journal.add_events(tx, rows))
        found = await store.read(lambda tx: journal.newest_events(tx, E, limit=999))
        assert [event.at for event in found] == [row.at for row in rows]
        numbers = [event.number for event in found]
        assert numbers == list(range(numbers[0], numbers[0] + 300))
        assert (found[1].worker, found[2].worker) == (None, "w")

        def undone(tx: Connection) -> None:
            journal.add_events(tx, rows)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await store.write(undone)
        assert len(await store.read(lambda tx: journal.newest_events(tx, E, limit=999))) == 300

    place.run(body)


def test_what_a_worker_prints_can_be_recorded(place: Place) -> None:
    async def body(store: Store) -> None:
        text = "\x00\x01\x1b[31mé\r\n\u2028" + "漢" * journal.MESSAGE_CHARS_MAX
        await store.write(lambda tx: journal.add_event(tx, at=0.0, kind="k", message=text, endpoint=E))
        [event] = await store.read(lambda tx: journal.newest_events(tx, E, limit=1))
        # PostgreSQL has no NUL.
        assert event.message.replace("\x00", "\ufffd") == text.replace("\x00", "\ufffd")[: journal.MESSAGE_CHARS_MAX]

    place.run(body)


def test_decisions_are_listed_newest_first(place: Place) -> None:
    async def body(store: Store) -> None:
        made = [
            Decision(at=float(n), current=n, workers=n + 1, reason="demand", inputs={"in_flight": 1.5, "waiting": None})
            for n in range(3)
        ]
        for each in made:
            await store.write(lambda tx, each=each: journal.add_decision(tx, E, each))  # type: ignore[misc]
        found = await store.read(lambda tx: journal.newest_decisions(tx, E, limit=2))
        first = (found[0].number or 0) - 2
        assert found == (replace(made[2], number=first + 2), replace(made[1], number=first + 1))
        after = await store.read(lambda tx: journal.decisions_after(tx, E, after=first, limit=9))
        assert after == found[::-1]
        assert await store.read(lambda tx: journal.decisions_after(tx, E, after=first, limit=1)) == found[1:]
        other = EndpointId("other")
        await store.write(lambda tx: journal.add_decision(tx, other, made[0]))
        of_all = await store.read(lambda tx: journal.decisions_of_all(tx, after=first + 1, limit=9))
        assert of_all == ((E, found[0]), (other, replace(made[0], number=first + 3)))
        newest = await store.read(lambda tx: journal.newest_numbers(tx, tables.decisions, limit=2))
        assert newest == ((first + 3, other), (first + 2, E))

    place.run(body)


def test_a_key_is_read_as_it_was_written(place: Place) -> None:
    async def body(store: Store) -> None:
        await _begin(store)
        made = [a_key(2), a_key(1, endpoints=frozenset({E}), expires_at=100.5, scopes=frozenset({Scope.ADMIN}))]
        for each in made:
            await store.write(lambda tx, each=each: keys.add(tx, each))  # type: ignore[misc]
        assert await store.read(lambda tx: keys.page(tx, project=P, after=0, limit=9)) == (made[1], made[0])
        for reference, found in {"1": made[1], "k2": made[0], HUGE: None, ODD: None, "K2": None}.items():
            assert await store.read(lambda tx, r=reference: keys.find(tx, r, project=P)) == found  # type: ignore[misc]
        assert len(await store.read(lambda tx: keys.usable(tx, now=100.0))) == 2
        assert await store.read(lambda tx: keys.usable(tx, now=101.0)) == (made[0],)
        for now in (5.0, 6.0):
            await store.write(lambda tx, now=now: keys.revoke(tx, made[0].id, now=now))  # type: ignore[misc]
        assert (
            await store.read(lambda tx: tx.execute(text("SELECT revoked_at FROM keys WHERE id = 'k2'")).scalar_one())
            == 5.0
        )
        assert await store.read(lambda tx: keys.page(tx, project=P, after=0, limit=9)) == (made[1],)

    place.run(body)


def test_an_idempotency_key_is_reserved_once(place: Place) -> None:
    async def body(store: Store) -> None:
        async def begin(key: str, now: float) -> keys.Remembered | None:
            return await store.write(
                lambda tx: keys.begin_once(
                    tx, project=P, route="/r", key=key, digest="d", now=now, forget_before=now - 10
                )
            )

        async def finish(key: str, status: int | None, body: str | None) -> None:
            await store.write(lambda tx: keys.finish_once(tx, project=P, route="/r", key=key, status=status, body=body))

        assert await begin("a", 0.0) is None
        assert await begin("a", 1.0) == keys.Remembered("d", None, None)
        await finish("a", 201, '{"x": "\\u0000"}')
        assert await begin("a", 2.0) == keys.Remembered("d", 201, '{"x": "\\u0000"}')
        assert await begin("b", 2.0) is None
        assert await begin("A", 2.0) is None, "keys differ in case"
        await finish("A", None, None)
        assert await begin("A", 2.0) is None
        await store.write(keys.forget_running)
        assert await begin("b", 3.0) is None
        assert await begin("a", 20.0) is None, "forgotten by age"

    place.run(body)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)


@given(texts=st.lists(words, min_size=1, max_size=5), at=st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_and_time_comes_back_as_it_went_in(place: Place, texts: list[str], at: float) -> None:
    async def body(store: Store) -> None:
        for each in texts:
            await store.write(lambda tx, m=each: journal.add_event(tx, at=at, kind="k", message=m, endpoint=E))  # type: ignore[misc]
        found = await store.read(lambda tx: journal.newest_events(tx, E, limit=len(texts)))
        assert [(event.message, event.at) for event in found] == [(text, at) for text in texts]

    place.run(body)

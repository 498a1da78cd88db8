"""Usage by hour and what is learned, on every store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.learned import Kind, Learned, Samples
from stoker.domain.learned import Place as At
from stoker.domain.usage import By, Hardware, RequestUsage, WorkerUsage
from stoker.store import installation, keys, learned, usage
from stoker.store.base import Store
from stoker.store.usage import MarkOf, RequestsOf, Scope, WorkersOf
from store.places import Place
from store.rows import a_key

P, Q = ProjectId(1), ProjectId(2)
E, F = EndpointId("e"), EndpointId("f")
# Beyond what 32 bits hold.
MANY = 2**40


def of(hour: int, endpoint: EndpointId = E, key: str = "", project: ProjectId = P) -> RequestsOf:
    return RequestsOf(hour, project, endpoint, key)


def counted(requests: int, tokens: int = 0) -> RequestUsage:
    return RequestUsage(requests=requests, errors=1, metered=1, prompt_tokens=tokens, completion_tokens=tokens)


async def read(store: Store, query: Callable[[Connection], Any]) -> Any:
    return await store.read(query)


def test_sums_of_requests_grow_and_are_told_apart_by_what_is_asked_for(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.write(lambda tx: usage.add_requests(tx, {of(1): counted(1, MANY), of(2, key="k1"): counted(2)}))
        await store.write(
            lambda tx: usage.add_requests(
                tx, {of(1): counted(3, MANY), of(1, F, "K1"): counted(5), of(1, EndpointId("g"), "", Q): counted(7)}
            )
        )
        scope = Scope(project=P, first=1, end=3)
        by_hour = await read(store, lambda tx: usage.requests_by(tx, scope, By.HOUR))
        assert {hour: found.requests for hour, found in by_hour.items()} == {"1": 9, "2": 2}
        assert by_hour["1"].prompt_tokens == 2 * MANY
        by_key = await read(store, lambda tx: usage.requests_by(tx, scope, By.KEY))
        assert {key: found.requests for key, found in by_key.items()} == {"": 4, "k1": 2, "K1": 5}
        by_endpoint = await read(store, lambda tx: usage.requests_by(tx, scope, By.ENDPOINT))
        assert {name: found.requests for name, found in by_endpoint.items()} == {"e": 6, "f": 5}
        by_project = await read(store, lambda tx: usage.requests_by(tx, scope, By.PROJECT))
        assert {name: found.requests for name, found in by_project.items()} == {"1": 11}
        for limited, expected in ((frozenset({E}), {"e"}), (frozenset[EndpointId](), set[str]())):
            some = Scope(project=P, first=1, end=2, endpoints=limited)
            assert set(await read(store, lambda tx, s=some: usage.requests_by(tx, s, By.ENDPOINT))) == expected  # type: ignore[misc]
        assert await read(store, lambda tx: usage.requests_by(tx, Scope(project=P, first=3, end=9), By.HOUR)) == {}

    place.run(body)


def test_time_of_workers_is_summed_by_hardware(place: Place) -> None:
    async def body(store: Store) -> None:
        cards, plain = Hardware("main", "2x h100"), Hardware("main", "cpu")
        time = WorkerUsage(started_s=1.5, ready_s=1.0, priced_s=0.5, cost=0.25)
        assert await read(store, usage.accrued_until) is None
        for until in (10.0, 20.5):
            sums = {WorkersOf(1, P, E, cards): time, WorkersOf(2, P, E, plain): time}
            await store.write(lambda tx, u=until, s=sums: usage.add_workers(tx, s, until=u))  # type: ignore[misc]
        await store.write(lambda tx: usage.add_workers(tx, {}, until=30.0))
        assert await read(store, usage.accrued_until) == 30.0
        found = await read(store, lambda tx: usage.workers_by(tx, Scope(project=P, first=0, end=9), By.ENDPOINT))
        assert found == {"e": {cards: time.plus(time), plain: time.plus(time)}}
        by_hour = await read(store, lambda tx: usage.workers_by(tx, Scope(project=P, first=0, end=2), By.HOUR))
        assert by_hour == {"1": {cards: time.plus(time)}}

    place.run(body)


def test_marks_and_names_are_replaced_and_what_is_old_is_forgotten(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.write(lambda tx: installation.add_default_project(tx, now=0.0))
        await store.write(lambda tx: keys.add(tx, a_key(1, name="clé")))
        one, two = MarkOf("gateway-1", E, ""), MarkOf("gateway-2", E, "k1")
        await store.write(lambda tx: usage.save_marks(tx, {one: counted(1), two: counted(2, MANY)}, now=5.0))
        await store.write(lambda tx: usage.save_marks(tx, {one: counted(4)}, now=6.0))
        assert await read(store, usage.marks) == {one: counted(4), two: counted(2, MANY)}
        await store.write(lambda tx: usage.name_endpoints(tx, {E: "Chat", F: "gone"}))
        await store.write(lambda tx: usage.name_endpoints(tx, {E: "Plausch"}))
        ids = [E, F, *(str(number) for number in range(1_200))]
        assert await read(store, lambda tx: usage.names(tx, By.ENDPOINT, ids)) == {"e": "Plausch", "f": "gone"}
        assert await read(store, lambda tx: usage.names(tx, By.KEY, ["k1", "K1"])) == {"k1": "clé"}
        await store.write(
            lambda tx: usage.add_requests(tx, {of(1): counted(1), of(2): counted(1), of(1, F): counted(1)})
        )
        await store.write(lambda tx: usage.trim(tx, before_hour=2, marks_before=7.0, incarnation="gateway-2"))
        assert await read(store, usage.marks) == {two: counted(2, MANY)}
        assert set(await read(store, lambda tx: usage.requests_by(tx, Scope(project=P, first=0, end=9), By.HOUR))) == {
            "2"
        }
        assert await read(store, lambda tx: usage.names(tx, By.ENDPOINT, ids)) == {"e": "Plausch"}
        await store.write(lambda tx: usage.trim(tx, before_hour=2, marks_before=7.0, incarnation=None))
        assert await read(store, usage.marks) == {}

    place.run(body)


def test_a_limited_key_may_have_more_endpoints_than_a_statement_has_parameters(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.write(lambda tx: usage.add_requests(tx, {of(1): counted(1)}))
        many = frozenset({E, *(EndpointId(f"e{number}") for number in range(1_300))})
        scope = Scope(project=P, first=0, end=9, endpoints=many)
        assert set(await read(store, lambda tx: usage.requests_by(tx, scope, By.ENDPOINT))) == {"e"}

    place.run(body)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from("ef"), st.sampled_from(["", "k"]), st.integers(0, MANY)),
        max_size=12,
    )
)
def test_however_sums_come_they_add_up(place: Place, adds: list[tuple[int, str, str, int]]) -> None:
    async def body(store: Store) -> None:
        await store.write(lambda tx: usage.trim(tx, before_hour=10**6, marks_before=1e12, incarnation=None))
        for hour, endpoint, key, number in adds:
            sums = {of(hour, EndpointId(endpoint), key): RequestUsage(requests=number)}
            await store.write(lambda tx, s=sums: usage.add_requests(tx, s))  # type: ignore[misc]
        scope = Scope(project=P, first=0, end=10)
        for by, place_ in ((By.HOUR, 0), (By.ENDPOINT, 1), (By.KEY, 2)):
            expected: dict[str, int] = {}
            for each in adds:
                expected[str(each[place_])] = expected.get(str(each[place_]), 0) + each[3]
            found = await read(store, lambda tx, b=by: usage.requests_by(tx, scope, b))  # type: ignore[misc]
            assert {group: sums.requests for group, sums in found.items()} == expected

    place.run(body)


def test_what_is_learned_is_replaced_kept_exactly_and_forgotten_when_old(place: Place) -> None:
    async def body(store: Store) -> None:
        odd = Learned(At("digest", "process", "hôst"), Kind.START_WARM, Samples((0.1, 1e-9, 1e12), MANY % 2**31))
        other = Learned(At("digest", "process", "host"), Kind.START_WARM, Samples((1.0,), 1))
        await store.write(lambda tx: learned.save(tx, [odd, other], now=1.0))
        again = Learned(odd.place, odd.kind, odd.samples.plus(2.5))
        await store.write(lambda tx: learned.save(tx, [again], now=2.0))
        assert await read(store, lambda tx: learned.everything(tx, limit=9)) == (again, other)
        assert await read(store, lambda tx: learned.everything(tx, limit=1)) == (again,)
        await store.write(lambda tx: learned.trim(tx, before=2.0))
        assert await read(store, lambda tx: learned.everything(tx, limit=9)) == (again,)

    place.run(body)

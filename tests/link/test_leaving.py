"""Slots while one gateway hands over to another: together they never get more than a worker has."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.loopback import endpoint
from link.test_server import Link, linked
from stoker.link.leaving import Leaver
from stoker.link.messages import (
    PROTOCOL_VERSION,
    Delta,
    EndpointReport,
    Hello,
    Leaving,
    Report,
    Snapshot,
    WorkerEntry,
)

EMPTY = EndpointReport("id-chat", 0, 0, 0.0, 0, 0, 0, 0, 0.0, 0.0, {})


def report(waiting: int = 0, **kept: int) -> Report:
    entry = msgspec.structs.replace(EMPTY, waiting=waiting, workers=dict(kept), kept=dict(kept), in_flight=0)
    return Report(1, 1.0, (entry,))


def rows(**slots: int) -> tuple[WorkerEntry, ...]:
    return tuple(WorkerEntry(id, "h", 1, count, 0) for id, count in slots.items())


def test_what_is_kept_only_shrinks() -> None:
    leaver = Leaver("old")
    assert leaver.take(report(a=2)) == {"id-chat"}
    assert leaver.take(report(a=3)) == set()
    assert leaver.keeps("id-chat", "a") == 2
    assert leaver.take(report(a=1)) == {"id-chat"}
    assert leaver.keeps("id-chat", "a") == 1


def test_a_worker_that_appears_is_shared_with_those_who_wait() -> None:
    leaver = Leaver("old")
    leaver.take(report(3))
    entry = leaver.entry(endpoint(*rows(a=2, b=2)), frozenset())
    assert {worker.id: worker.slots for worker in entry.workers} == {"a": 2, "b": 1}
    assert [leaver.keeps("id-chat", worker) for worker in "ab"] == [2, 1]
    leaver.take(Report(1, 1.0, (msgspec.structs.replace(EMPTY, waiting=3),)))
    assert [leaver.keeps("id-chat", worker) for worker in "ab"] == [2, 1], "it has not heard of them yet"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("says"), st.dictionaries(st.sampled_from("abc"), st.integers(0, 4)), st.integers(0, 5)),
            st.tuples(st.just("table"), st.dictionaries(st.sampled_from("abc"), st.integers(1, 4)), st.just(0)),
        ),
        max_size=20,
    )
)
def test_what_it_is_told_to_have_is_what_it_keeps(steps: list[tuple[str, dict[str, int], int]]) -> None:
    leaver = Leaver("old")
    leaver.take(report(2, a=1))
    known: frozenset[str] = frozenset("a")
    for kind, slots, waiting in steps:
        kept = {worker: leaver.keeps("id-chat", worker) for worker in "abc"}
        if kind == "says":
            leaver.take(report(waiting, **slots))
            assert all(leaver.keeps("id-chat", worker) <= count for worker, count in kept.items())
        else:
            entry = leaver.entry(endpoint(*rows(**slots)), known)
            for worker in entry.workers:
                assert worker.slots == leaver.keeps("id-chat", worker.id)
                assert worker.id in known or worker.slots <= max(kept[worker.id], slots[worker.id])
            known |= frozenset(slots)


def test_a_successor_gets_the_slots_that_the_one_before_does_not_need(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        link.server.put_endpoint(endpoint(*rows(a=4)))
        link.server.open()
        old = await link.greet()
        assert isinstance(await old.hear(), Snapshot)
        new = await link.connect()
        new.say(Hello(PROTOCOL_VERSION, "new", 0, successor=True))
        assert isinstance(await new.hear(), Hello)
        old.say(Leaving(), report(a=3))
        snapshot = await new.hear()
        assert isinstance(snapshot, Snapshot)
        assert snapshot.endpoints[0].workers[0].slots == 1
        assert link.server.kept("id-chat", "a") == 3
        old.say(report(a=1))
        delta = await new.hear()
        while isinstance(delta, Delta) and delta.endpoints[0].workers[0].slots != 3:
            delta = await new.hear()
        assert isinstance(delta, Delta)
        old.writer.close()
        delta = await new.hear()
        assert isinstance(delta, Delta)
        assert delta.endpoints[0].workers[0].slots == 4
        assert "left g" in link.listener.heard

    linked(tmp_path, body)


def test_a_gateway_that_lost_control_on_its_way_out_comes_back_as_that(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        link.server.put_endpoint(endpoint(*rows(a=4)))
        link.server.open()
        new = await link.greet()
        assert isinstance(await new.hear(), Snapshot)
        old = await link.connect()
        old.say(Hello(PROTOCOL_VERSION, "old", 0, leaving=True, attempts="a-old.sock"), report(a=2))
        delta = await new.hear()
        assert isinstance(delta, Delta)
        assert delta.endpoints[0].workers[0].slots == 2
        assert link.server.connected
        assert link.server.attempts == ("a-old.sock",)
        old.writer.close()
        await link.until(lambda: link.server.attempts == ())

    linked(tmp_path, body)

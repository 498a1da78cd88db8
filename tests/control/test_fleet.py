"""What control knows: the same in memory and in the store, and what is held of hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from builders import endpoint, worker
from simulation import virtual
from stoker.control.change import Change, EventDraft
from stoker.control.fleet import Fleet
from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, Placement, PortRange
from stoker.domain.operation import Operation, OperationId, OperationKind, OperationState
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.policy.placement import PORT_QUARANTINE_S
from stoker.store import installation, journal
from stoker.store.sqlite import InlineSqliteStore

S = WorkerState
E = endpoint(desired=1)


def operation(name: str) -> Operation:
    return Operation(
        id=OperationId(name),
        number=0,
        kind=OperationKind.CREATE,
        endpoint=E.id,
        state=OperationState.PENDING,
        created_at=0.0,
        deadline_at=100.0,
        revision=1,
    )


def placed(number: int, state: WorkerState) -> Worker:
    placement = Placement(host="h", gpus=(number,), vcpu=1.0, port=20_000 + number)
    return worker(number, state, placement=placement, ended_at=0.0 if state is S.STOPPED else None)


def run(body: Callable[[Fleet], Awaitable[None]]) -> None:
    async def main() -> None:
        store = InlineSqliteStore()
        await store.write(lambda tx: installation.add_default_project(tx, now=0.0))
        fleet = Fleet(store)
        await fleet.add(lambda _: Change(endpoint=E, new_operations=[operation("o")]))
        await body(fleet)
        await store.close()

    virtual.run(main())


async def again(fleet: Fleet, *, now: float = 0.0) -> Fleet:
    """What the next control finds."""
    made = Fleet(fleet.store)
    await made.load(now=now)
    return made


def test_what_is_committed_is_in_memory_and_in_the_store_alike() -> None:
    async def body(fleet: Fleet) -> None:
        changed = replace(E, desired=2)
        await fleet.commit(Change(endpoint=changed, new_workers=[placed(7, S.STARTING), placed(8, S.PENDING)]))
        first, second = fleet.workers(E.id)
        assert (first.number, second.number) == (1, 2), "numbers are given when they are written"
        await fleet.commit(Change(endpoint=changed, workers={first.id: replace(first, state=S.READY, ready_at=5.0)}))
        other = await again(fleet)
        assert other.endpoints() == fleet.endpoints() == (changed,)
        assert other.workers(E.id) == fleet.workers(E.id)
        assert other.operations(E.id) == fleet.operations(E.id)
        assert [w.state for w in other.workers(E.id)] == [S.READY, S.PENDING]

    run(body)


def test_a_change_that_cannot_be_written_changes_nothing_in_memory_either() -> None:
    async def body(fleet: Fleet) -> None:
        def refuse(_: Connection) -> None:
            raise ValueError("no")

        new = placed(1, S.STARTING)
        assert new.placement is not None
        fleet.reserve(new.id, "fake", new.placement)
        change = Change(endpoint=replace(E, desired=9), new_workers=[new], check=refuse)
        with pytest.raises(ValueError, match="no"):
            await fleet.commit(change)
        assert (fleet.endpoint(E.id), fleet.workers(E.id)) == (E, ())
        assert fleet.placements("fake", now=0.0) == [], "nor is anything held for it"

    run(body)


def test_an_operation_is_known_until_it_has_ended() -> None:
    async def body(fleet: Fleet) -> None:
        [first] = fleet.operations(E.id)
        _, [second] = await fleet.commit(Change(endpoint=E, new_operations=[operation("p")]))
        assert [o.id for o in fleet.operations(E.id)] == ["o", "p"]
        assert first.number < second.number
        ended = replace(first, state=OperationState.SUCCESS, ended_at=1.0)
        await fleet.commit(Change(endpoint=E, operations=[ended]))
        assert fleet.operations(E.id) == (await again(fleet)).operations(E.id) == (second,)

    run(body)


def test_workers_hold_everything_until_they_are_gone_and_their_port_for_a_while_after() -> None:
    async def body(fleet: Fleet) -> None:
        await fleet.commit(Change(endpoint=E, new_workers=[placed(1, S.READY), placed(2, S.STOPPING)]))
        assert [p.gpus for p in fleet.placements("fake", now=0.0)] == [(1,), (2,)]
        assert fleet.placements("other", now=0.0) == []
        assert [p.gpus for p in fleet.placements("fake", now=0.0, without=frozenset({WorkerId("w1")}))] == [(2,)]
        gone = [replace(w, state=S.STOPPED, ended_at=0.0) for w in fleet.workers(E.id)]
        await fleet.commit(Change(endpoint=E, workers={w.id: w for w in gone}))
        for known in (fleet, await again(fleet, now=1e9)):
            held = known.placements("fake", now=1e9)
            assert [(p.gpus, p.vcpu, p.port) for p in held] == [((), None, 20_001), ((), None, 20_002)]
        await fleet.release(gone, now=1_000.0)
        end = 1_000.0 + PORT_QUARANTINE_S
        for known in (fleet, await again(fleet, now=end - 1)):
            assert len(known.placements("fake", now=end - 1)) == 2
            assert known.placements("fake", now=end) == []
        assert fleet.forget_released(now=end - 1) == []
        assert len(fleet.workers(E.id)) == 2
        fleet.forget_released(now=end)
        assert fleet.workers(E.id) == (await again(fleet, now=end)).workers(E.id) == ()

    run(body)


def test_a_removed_endpoint_is_forgotten_but_not_the_ports_of_its_workers() -> None:
    async def body(fleet: Fleet) -> None:
        await fleet.commit(Change(endpoint=E, new_workers=[placed(1, S.STOPPED)]))
        ended = [replace(o, state=OperationState.SUCCESS, ended_at=0.0) for o in fleet.operations(E.id)]
        await fleet.commit(Change(endpoint=E, operations=ended, removed=True))
        for known in (fleet, await again(fleet)):
            assert (known.endpoints(), known.operations(E.id)) == ((), ())
            assert [p.port for p in known.placements("fake", now=0.0)] == [20_001]
        await fleet.release(fleet.workers(E.id), now=0.0)
        assert fleet.forget_released(now=PORT_QUARANTINE_S) == [E.id]

    run(body)


def test_events_are_written_with_the_change_they_tell_of() -> None:
    async def body(fleet: Fleet) -> None:
        await fleet.commit(Change(endpoint=E, events=[EventDraft(at=1.0, kind="k", message="m" * 10_000)]))
        [event] = await fleet.store.read(lambda tx: journal.newest_events(tx, E.id, limit=9))
        assert (event.kind, len(event.message)) == ("k", journal.MESSAGE_CHARS_MAX)

    run(body)


def test_a_watch_misses_no_commit_between_two_looks() -> None:
    async def body(fleet: Fleet) -> None:
        loop = asyncio.get_running_loop()
        with fleet.watching() as watch:
            await fleet.commit(Change(endpoint=E))
            await watch.changed(timeout_s=50)
            assert loop.time() == 0, "it came before, but after the watch began"
            await watch.changed(timeout_s=50)
            assert loop.time() == 50
            loop.call_later(3, lambda: asyncio.ensure_future(fleet.commit(Change(endpoint=E))))
            await watch.changed(timeout_s=50)
            assert loop.time() == 53

    run(body)


def test_a_slug_is_likely_until_an_endpoint_has_it_and_again_when_that_is_gone() -> None:
    async def body(fleet: Fleet) -> None:
        assert fleet.likely_slug("E") is None, "of the endpoint that is there"
        assert fleet.likely_slug("Chat for all") == "chat-for-all"
        assert fleet.likely_slug("12") is None, "it would be taken for a number"
        assert (await again(fleet)).likely_slug("e") is None
        await fleet.commit(Change(endpoint=E, removed=True))
        assert fleet.likely_slug("e") == "e"

    run(body)


def test_endpoints_are_draining_as_long_as_a_worker_of_theirs_is() -> None:
    async def body(fleet: Fleet) -> None:
        await fleet.commit(Change(endpoint=E, new_workers=[placed(0, S.DRAINING), placed(1, S.READY)]))
        assert fleet.draining() == [E.id]
        assert (await again(fleet)).draining() == [E.id]
        first = fleet.workers(E.id)[0]
        await fleet.commit(Change(endpoint=E, workers={first.id: replace(first, state=S.STOPPING)}))
        assert fleet.draining() == []

    run(body)


def test_a_worker_is_placed_beside_all_that_is_held_reserved_or_not_forgotten() -> None:
    host = Offer(
        host="h",
        vcpu=8,
        ram_gib=16,
        gpus=tuple(GpuDevice(index, f"card-{index}", "h100", 80.0) for index in range(4)),
        ports=PortRange(20_000, 20_010),
    )

    async def body(fleet: Fleet) -> None:
        def free() -> tuple[int, ...]:
            found = fleet.place("fake", HardwareRequest(gpu_count=1), (host,), ports=1)
            return found.gpus if isinstance(found, Placement) else ()

        assert free() == (0,)
        await fleet.commit(Change(endpoint=E, new_workers=[placed(0, S.READY)]))
        assert free() == (1,)
        fleet.reserve(WorkerId("w9"), "fake", Placement(host="h", gpus=(1,)))
        assert free() == (2,)
        later = replace(placed(2, S.STARTING), id=WorkerId("w9"))
        await fleet.commit(Change(endpoint=E, new_workers=[later]))
        assert free() == (1,), "what was reserved has become what is held"
        first = fleet.workers(E.id)[0]
        gone = replace(first, state=S.STOPPED, ended_at=1.0, released_at=1.0)
        await fleet.commit(Change(endpoint=E, workers={first.id: gone}))
        found = fleet.place("fake", HardwareRequest(gpu_count=1), (host,), ports=1)
        assert isinstance(found, Placement)
        assert found.gpus == (0,)
        assert found.port != 20_000, "the port is in quarantine"
        fleet.forget_released(now=1.0 + PORT_QUARANTINE_S)
        found = fleet.place("fake", HardwareRequest(gpu_count=1), (host,), ports=1)
        assert isinstance(found, Placement)
        assert found.port == 20_000

    run(body)

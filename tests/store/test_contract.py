"""What every store promises: durable when answered, one command's failure is its own, commands follow each other."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import IntegrityError

from stoker.domain.errors import Unavailable
from stoker.store import installation
from stoker.store.base import Store
from stoker.store.commands import BATCH_MAX
from stoker.store.tables import counters
from store.places import Place


def number(tx: Connection) -> int:
    return installation.next_number(tx, "x")


def count(tx: Connection) -> int:
    return tx.execute(select(counters.c.value).where(counters.c.kind == "x")).scalar_one_or_none() or 0


def fails(tx: Connection) -> None:
    installation.next_number(tx, "x")
    raise ValueError("no")


def breaks(tx: Connection) -> None:
    """As `fails`, by the database's own judgement: in PostgreSQL a failed statement spoils its whole transaction."""
    installation.next_number(tx, "x")
    tx.execute(counters.insert().values(kind="x", value=1))


def test_a_write_is_seen_by_every_later_read_and_by_the_next_opening(place: Place) -> None:
    async def first(store: Store) -> None:
        for expected in (1, 2, 3):
            assert await store.write(number) == expected
            assert await store.read(count) == expected

    async def second(store: Store) -> None:
        assert await store.read(count) == 3

    place.run(first)
    place.run(second)


def test_a_command_that_fails_undoes_its_own_changes_and_no_others(place: Place) -> None:
    async def body(store: Store) -> None:
        results = await asyncio.gather(
            *(store.write(number) for _ in range(10)),
            store.write(fails),
            store.write(breaks),
            *(store.write(number) for _ in range(10)),
            return_exceptions=True,
        )
        assert isinstance(results[10], ValueError)
        assert isinstance(results[11], IntegrityError)
        assert sorted(r for r in results if isinstance(r, int)) == list(range(1, 21))
        assert await store.read(count) == 20

    place.run(body)


def test_more_writers_than_fit_into_one_commit_are_all_answered_in_order(place: Place) -> None:
    async def body(store: Store) -> None:
        numbers = await asyncio.gather(*(store.write(number) for _ in range(2 * BATCH_MAX + 5)))
        assert numbers == list(range(1, 2 * BATCH_MAX + 6))

    place.run(body)


def test_a_write_that_is_given_up_before_its_turn_is_not_made(place: Place) -> None:
    async def body(store: Store) -> None:
        first = [asyncio.create_task(store.write(number)) for _ in range(BATCH_MAX)]
        last = asyncio.create_task(store.write(number))
        await asyncio.sleep(0)
        last.cancel()
        await asyncio.gather(*first)
        with pytest.raises(asyncio.CancelledError):
            await last
        assert await store.write(number) == BATCH_MAX + 1

    place.run(body)


def test_many_reads_go_side_by_side_with_writes(place: Place) -> None:
    async def body(store: Store) -> None:
        reads = [store.read(count) for _ in range(50)]
        writes = [store.write(number) for _ in range(50)]
        seen = (await asyncio.gather(*reads, *writes))[:50]
        assert all(0 <= each <= 50 for each in seen)
        assert await store.read(count) == 50

    place.run(body)


def test_a_reader_that_fails_harms_no_other(place: Place) -> None:
    async def body(store: Store) -> None:
        with pytest.raises(Exception, match="nothing"):
            await store.read(lambda tx: tx.execute(text("SELECT * FROM nothing")).all())
        assert await store.read(count) == 0

    place.run(body)


def test_a_closed_store_finishes_what_it_accepted_and_takes_no_more(place: Place) -> None:
    async def main() -> None:
        store = await place.open()
        pending = [asyncio.create_task(store.write(number)) for _ in range(5)]
        await asyncio.sleep(0)
        await store.close()
        assert [await task for task in pending] == [1, 2, 3, 4, 5]
        with pytest.raises(Unavailable):
            await store.write(count)
        await store.close()

    asyncio.run(main())


def test_a_store_in_good_order_lasts(place: Place) -> None:
    async def body(store: Store) -> None:
        lasting = asyncio.create_task(store.lasts())
        await store.write(number)
        assert not lasting.done()
        lasting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lasting

    place.run(body)

"""Requests with an Idempotency-Key: one at a time, answered again, forgotten after a day."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from stoker.control.once import BODY_CHARS_MAX, KEPT_S, Answer, Once, Ticket
from stoker.domain.endpoint import ProjectId
from stoker.domain.errors import Conflict, Invalid
from stoker.store import keys
from stoker.store.sqlite import InlineSqliteStore

ONE, TWO = ProjectId(1), ProjectId(2)


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def run(body: Callable[[Once, Clock, InlineSqliteStore], Awaitable[None]]) -> None:
    async def main() -> None:
        store, clock = InlineSqliteStore(), Clock()
        try:
            await body(Once(store, clock=clock), clock, store)
        finally:
            await store.close()

    asyncio.run(main())


async def ticket(
    once: Once, *, project: ProjectId = ONE, route: str = "/r", key: str = "k", body: bytes = b""
) -> Ticket:
    begun = await once.begin(project, route, key, body)
    assert isinstance(begun, Ticket)
    return begun


def test_the_answer_of_the_first_is_that_of_the_second() -> None:
    async def body(once: Once, clock: Clock, store: InlineSqliteStore) -> None:
        await once.finish(await ticket(once), 201, '{"a": 1}')
        assert await once.begin(ONE, "/r", "k", b"") == Answer(201, '{"a": 1}')
        with pytest.raises(Invalid, match="another request"):
            await once.begin(ONE, "/r", "k", b"other")

    run(body)


def test_projects_routes_and_keys_are_apart() -> None:
    async def body(once: Once, clock: Clock, store: InlineSqliteStore) -> None:
        await once.finish(await ticket(once), 200, "{}")
        await ticket(once, project=TWO, body=b"other")
        await ticket(once, route="/other", body=b"other")
        await ticket(once, key="other", body=b"other")

    run(body)


def test_one_that_runs_is_a_conflict_until_it_has_ended_or_control_was_started_anew() -> None:
    async def body(once: Once, clock: Clock, store: InlineSqliteStore) -> None:
        first = await ticket(once)
        with pytest.raises(Conflict, match="still running"):
            await once.begin(ONE, "/r", "k", b"")
        await once.abandon(first)
        await ticket(once)
        await store.write(keys.forget_running)
        await once.finish(await ticket(once), 200, "{}")
        await store.write(keys.forget_running)
        assert await once.begin(ONE, "/r", "k", b"") == Answer(200, "{}"), "what has ended is kept"

    run(body)


def test_a_key_is_free_again_after_a_day() -> None:
    async def body(once: Once, clock: Clock, store: InlineSqliteStore) -> None:
        await once.finish(await ticket(once), 200, "{}")
        clock.now += KEPT_S - 1
        assert isinstance(await once.begin(ONE, "/r", "k", b""), Answer)
        clock.now += 2
        await ticket(once, body=b"other")

    run(body)


def test_an_answer_too_long_to_be_kept_is_as_if_it_never_was() -> None:
    async def body(once: Once, clock: Clock, store: InlineSqliteStore) -> None:
        await once.finish(await ticket(once), 200, "x" * (BODY_CHARS_MAX + 1))
        await ticket(once)

    run(body)


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_has_between_1_and_255_characters(key: str) -> None:
    async def body(once: Once, clock: Clock, store: InlineSqliteStore) -> None:
        with pytest.raises(Invalid, match="between 1 and 255"):
            await once.begin(ONE, "/r", key, b"")

    run(body)


def test_what_is_kept_is_told_to_its_project_for_a_day_and_is_not_overwritten() -> None:
    async def body(once: Once, clock: Clock, store: InlineSqliteStore) -> None:
        await once.keep(ONE, "/r", "k", "first")
        await once.keep(ONE, "/r", "k", "second")
        assert await once.kept(ONE, "/r", "k") == "first"
        assert await once.kept(TWO, "/r", "k") is None
        assert await once.kept(ONE, "/other", "k") is None
        clock.now += KEPT_S
        assert await once.kept(ONE, "/r", "k") == "first"
        clock.now += 1
        assert await once.kept(ONE, "/r", "k") is None

    run(body)

"""Answers that are given again: to requests that carry an Idempotency-Key, which run once, and to those who ask later
how something went that is no operation of an endpoint. Kept per project, route and key, for 24 hours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from stoker.domain.endpoint import ProjectId
from stoker.domain.errors import Conflict, Invalid
from stoker.store import keys as rows
from stoker.store.base import Store

KEPT_S = 86_400.0
KEY_CHARS_MAX = 255
BODY_CHARS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to run a request; to be given back by `finish` or `abandon`."""

    project: ProjectId
    route: str
    key: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the first request was answered."""

    status: int
    body: str


class Once:
    """See the module."""

    def __init__(self, store: Store, *, clock: Callable[[], float], kept_s: float = KEPT_S) -> None:
        self._store = store
        self._kept_s = kept_s
        self._clock = clock

    async def begin(self, project: ProjectId, route: str, key: str, body: bytes) -> Ticket | Answer:
        """A ticket for the first request with this key, its answer for a repetition.

        Raises `Conflict` while the first still runs, `Invalid` when the key was used for another body.
        """
        if not 0 < len(key) <= KEY_CHARS_MAX:
            raise Invalid(f"an Idempotency-Key has between 1 and {KEY_CHARS_MAX} characters")
        digest, now = hashlib.sha256(body).hexdigest(), self._clock()
        known = await self._store.write(
            lambda tx: rows.begin_once(
                tx, project=project, route=route, key=key, digest=digest, now=now, forget_before=now - self._kept_s
            )
        )
        if known is None:
            return Ticket(project, route, key)
        if known.digest != digest:
            raise Invalid("this Idempotency-Key was used for another request; use a new key")
        if known.status is None or known.body is None:
            raise Conflict("the first request with this Idempotency-Key is still running; try again in a moment")
        return Answer(known.status, known.body)

    async def finish(self, ticket: Ticket, status: int, body: str) -> None:
        """Remember the answer, unless it is too long to be kept."""
        if len(body) > BODY_CHARS_MAX:
            await self.abandon(ticket)
            return
        await self._store.write(
            lambda tx: rows.finish_once(
                tx, project=ticket.project, route=ticket.route, key=ticket.key, status=status, body=body
            )
        )

    async def abandon(self, ticket: Ticket) -> None:
        """Nothing was changed: the key may be used again."""
        await self._store.write(
            lambda tx: rows.finish_once(
                tx, project=ticket.project, route=ticket.route, key=ticket.key, status=None, body=None
            )
        )

    async def keep(self, project: ProjectId, route: str, key: str, body: str) -> None:
        """An answer to give to those who ask for `key`, which is new, in the time to come."""
        if isinstance(ticket := await self.begin(project, route, key, b""), Ticket):
            await self.finish(ticket, 200, body)

    async def kept(self, project: ProjectId, route: str, key: str) -> str | None:
        """What was kept; `None` for nothing, or no longer."""
        forget_before = self._clock() - self._kept_s
        known = await self._store.read(
            lambda tx: rows.answered(tx, project=project, route=route, key=key, forget_before=forget_before)
        )
        return None if known is None else known.body

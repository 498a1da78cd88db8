"""The outbox: sends the webhooks that were recorded with the ends of tasks, in the form that each was written in.

Each at least once, with the same id and content every time, until its receiver takes it, is gone (410) or a day has
passed. Receivers have limits and a circuit breaker of their own each, so that a dead one delays nobody else.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import structlog

from stoker.control.loop import Loop
from stoker.domain.addresses import UrlRefused
from stoker.domain.errors import StokerError
from stoker.domain.pauses import doubled
from stoker.domain.task import Delivery, DeliveryState
from stoker.net import GuardedSession, TooLarge
from stoker.queue.forms import WebhookForm
from stoker.store import deliveries as rows
from stoker.store.base import Store

log = structlog.get_logger(__name__)

PERIOD_S: Final = 1.0
# Nobody looks more seldom, though nothing is to be sent that anybody knows of.
QUIET_S_MAX: Final = 10.0
SENDING_MAX: Final = 64
SENDING_TO_ONE_MAX: Final = 8
ANSWER_BYTES_MAX: Final = 16 * 1024
ERROR_CHARS_MAX: Final = 500
# So many failures in a row open a receiver's circuit: then one try at a time, with growing pauses.
FAILURES_MAX: Final = 5
OPEN_S: Final = 10.0
OPEN_S_MAX: Final = 600.0
CIRCUITS_MAX: Final = 10_000


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_until: float = 0.0

    @property
    def broken(self) -> bool:
        return self.failures >= FAILURES_MAX

    def failed(self, now: float) -> None:
        if now < self.open_until:
            # Under way when it opened: that the receiver failed is known.
            return
        self.failures += 1
        if self.broken:
            self.open_until = now + doubled(OPEN_S, self.failures - FAILURES_MAX + 1, max_s=OPEN_S_MAX)


@dataclass(frozen=True, slots=True)
class _Reply:
    """`status` is `None` when there was none. `final`: no other try would end otherwise."""

    status: int | None
    error: str = ""
    retry_after_s: float | None = None
    final: bool = False


class Outbox:
    """Run its `loop`; `wake` it when there is something to send; `close` it."""

    def __init__(
        self,
        store: Store,
        session: GuardedSession,
        key: Callable[[Delivery], Awaitable[str | None]],
        forms: Mapping[str, WebhookForm],
        *,
        clock: Callable[[], float],
        chance: Callable[[], float] = random.random,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`key(delivery)` is what it is signed with; `forms` are those that webhooks are written in, by name. `wall()`
        is the time that signatures carry.
        """
        self._store = store
        self._session = session
        self._key = key
        self._forms = forms
        self._clock = clock
        self._chance = chance
        self._wall = wall
        self._sending: dict[str, asyncio.Task[None]] = {}
        # Those whose tries ended while a step was reading, which may have read them as they were before.
        self._ended: set[str] = set()
        self._to: Counter[str] = Counter()
        self._circuits: dict[str, _Circuit] = {}
        # Before then nothing is due, unless somebody says so.
        self._quiet_until = 0.0
        self.loop = Loop("webhooks", self.step, period_s=PERIOD_S)

    def wake(self) -> None:
        """There may be something to send."""
        self._quiet_until = 0.0
        self.loop.wake()

    async def close(self) -> None:
        """Stop; what was not answered is sent again by the next control."""
        for task in tuple(self._sending.values()):
            task.cancel()
        await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def step(self) -> None:
        """Send what is due, as far as receivers may have it now."""
        room = SENDING_MAX - len(self._sending)
        if room <= 0:
            return
        now = self._clock()
        if now < self._quiet_until:
            return
        # Whoever comes while it looks must be looked for again.
        self._quiet_until = now
        self._ended.clear()
        closed = [origin for origin in {*self._circuits, *self._to} if self._room(origin, now) <= 0]
        limit = room + len(self._sending)
        due, next_at = await self._store.read(
            lambda tx: (rows.due(tx, now=now, without=closed, limit=limit), rows.next_at(tx))
        )
        if not due and not closed and self._quiet_until == now:
            self._quiet_until = min(now + QUIET_S_MAX, math.inf if next_at is None else next_at)
        for delivery in due:
            origin = _origin(delivery.url)
            if delivery.id in self._sending or delivery.id in self._ended:
                continue
            if self._room(origin, now) <= 0 or len(self._sending) >= SENDING_MAX:
                continue
            self._to[origin] += 1
            self._sending[delivery.id] = asyncio.create_task(self._send(delivery, origin))

    def _room(self, origin: str, now: float) -> int:
        """How many more may be sent there now."""
        circuit = self._circuits.get(origin)
        if circuit is None or not circuit.broken:
            return SENDING_TO_ONE_MAX - self._to[origin]
        return 0 if now < circuit.open_until else 1 - self._to[origin]

    async def _send(self, delivery: Delivery, origin: str) -> None:
        try:
            reply = await self._tried(delivery)
            after = self._judged(delivery, reply)
            self._note(origin, reply)
            await self._store.write(lambda tx: rows.save(tx, after))
        except Exception as exc:
            # It is still pending, and sent again.
            log.error("webhook_not_recorded", delivery=delivery.id, error=str(exc), exc_info=True)
        finally:
            del self._sending[delivery.id]
            self._ended.add(delivery.id)
            self._to[origin] -= 1
            if self._to[origin] <= 0:
                del self._to[origin]
            self.wake()

    async def _tried(self, delivery: Delivery) -> _Reply:
        form = self._forms.get(delivery.form)
        if form is None:
            return _Reply(None, f"nothing here writes webhooks in the form {delivery.form!r}", final=True)
        try:
            headers, body = form.request(delivery, await self._key(delivery), self._wall())
            async with self._session.request(
                "POST", delivery.url, headers=headers, body=body, timeout_s=form.try_s, redirects_max=0
            ) as answer:
                try:
                    await answer.body(bytes_max=ANSWER_BYTES_MAX)
                except TooLarge:
                    # Nobody reads it; the status is what counts.
                    log.info("webhook_answer_cut", delivery=delivery.id)
                return _reply_of(answer.status, answer.headers.get("Retry-After"), self._wall())
        except UrlRefused as exc:
            return _Reply(None, str(exc), final=True)
        except StokerError as exc:
            return _Reply(None, str(exc))

    def _judged(self, delivery: Delivery, reply: _Reply) -> Delivery:
        now, tries = self._clock(), delivery.tries + 1
        after = replace(delivery, tries=tries, status=reply.status, error=reply.error[:ERROR_CHARS_MAX])
        if not reply.error:
            return replace(after, state=DeliveryState.DELIVERED, ended_at=now)
        form = self._forms.get(delivery.form)
        wait_s = None if reply.final or form is None else form.wait_s(tries, self._chance(), reply.retry_after_s)
        if wait_s is None or form is None or now + wait_s - delivery.created_at > form.give_up_s:
            return replace(after, state=DeliveryState.FAILED, ended_at=now)
        return replace(after, next_at=now + wait_s)

    def _note(self, origin: str, reply: _Reply) -> None:
        # A receiver that answers lives, whatever it says, unless that is of its own trouble.
        if reply.status is not None and reply.status < 500 and reply.status != 429:
            self._circuits.pop(origin, None)
            return
        if len(self._circuits) >= CIRCUITS_MAX:
            self._circuits.pop(next(iter(self._circuits)))
        self._circuits.setdefault(origin, _Circuit()).failed(self._clock())


def _reply_of(status: int, retry_after: str | None, now: datetime) -> _Reply:
    if 200 <= status < 300:
        return _Reply(status)
    retry_after_s = seconds_of(retry_after or "", now)
    error = "redirects are not followed" if 300 <= status < 400 else f"it answered with status {status}"
    return _Reply(status, error, retry_after_s, final=status == 410)


def seconds_of(retry_after: str, now: datetime) -> float | None:
    """What `Retry-After` says: seconds, or a date; `None` for anything else."""
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) <= 9:
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"

"""Detached attempts: requests that control makes on behalf of tasks, which outlive the connection that asked for them.

An attempt gets a slot now or is refused; its answer is kept until it is acknowledged. `gateway.internal` speaks of them
over HTTP; nothing here knows how.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from stoker.gateway.answers import Answer
from stoker.gateway.exchange import Exchange
from stoker.gateway.head import Headers
from stoker.gateway.response import ResponseHead
from stoker.gateway.results import Body, Spool

ATTEMPTS_MAX: Final = 10_000
# Whoever has not asked for a result for a day has lost interest, or its records.
RESULT_KEPT_S: Final = 86_400.0
# What an exchange says of a worker that had the request; all else says that none had it.
_WORKERS_FAULT: Final = frozenset({502, 504})


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """An endpoint's limits, with a total of the task's own. Seconds; `None` is no limit."""

    connect_s: float
    first_byte_s: float | None
    idle_s: float | None
    total_s: float | None


class Attempt:
    """One attempt, the `Downstream` of its exchange. `state` is `running`, then for good `answered`, `failed` (a worker
    had it, and gave no whole answer) or `refused` (no worker had it: as good as never tried).
    """

    def __init__(self, id: str, endpoint: str, spool: Spool, now: float, *, ended: Callable[[Attempt], None]) -> None:
        self.id = id
        # Counts ends, once it has ended.
        self.seq = 0
        self.endpoint = endpoint
        self.began_at = now
        self.state = "running"
        self.reason = ""
        self.worker: str | None = None
        self.head: ResponseHead | None = None
        self.body = Body(spool, id)
        self.exchange: Exchange | None = None
        self.watchers: set[Callable[[], None]] = set()
        # Told whenever there is more of the answer, and of its end.
        self.followers: set[Callable[[], None]] = set()
        self._ended = ended

    @property
    def running(self) -> bool:
        """Is it still under way?"""
        return self.state == "running"

    def stop(self, state: str, reason: str) -> None:
        """It is over. The first word counts."""
        if not self.running:
            return
        self.state, self.reason = state, reason
        self.exchange = None
        if state != "answered":
            self.body.drop()
        self._ended(self)
        watchers, self.watchers = self.watchers, set()
        for watcher in watchers:
            watcher()
        self._tell_followers()

    def _tell_followers(self) -> None:
        for follower in tuple(self.followers):
            follower()

    def cancel(self, reason: str) -> None:
        """End it before its time; its worker sees the connection close."""
        if self.exchange is not None:
            self.exchange.gone()
        self.stop("failed", reason)

    # What an exchange does with its `Downstream`

    def go_on(self) -> None:
        """The whole body is there already."""

    def interim(self, status: int, headers: Headers) -> None:
        """Nobody is there to whom it would be of use."""

    def note_worker(self) -> None:
        """Remember which worker has it."""
        if self.exchange is not None:
            self.worker = self.exchange.worker

    def begin(self, head: ResponseHead) -> None:
        self.note_worker()
        self.head = head

    def write(self, data: bytes) -> None:
        self.body.write(data)

    def flush(self) -> None:
        if self.body.too_long:
            self.cancel("result_too_long")
        elif self.followers:
            self._tell_followers()

    def trailer(self, line: bytes) -> None:
        """Trailers are not kept."""

    def finish(self) -> None:
        if self.body.too_long:
            self.stop("failed", "result_too_long")
        else:
            self.stop("answered", "")

    def switch(self, head: bytes) -> tuple[asyncio.Transport, bytes] | None:
        """A task has no WebSocket."""
        return None

    def close(self) -> None:
        """Nothing is open."""

    def connection_lost(self, exc: Exception | None) -> None:
        """There is none."""

    def answer(self, answer: Answer) -> None:
        """The gateway's own answer: none of a worker, or a worker that failed."""
        self.stop("failed" if answer.head.status in _WORKERS_FAULT else "refused", answer.reason)

    def abort(self) -> None:
        self.stop("failed", "worker_failed")

    def pause_body(self) -> None:
        """There is nothing to pause: the body is whole."""

    def resume_body(self) -> None:
        """Nor to resume."""

    def alive(self) -> bool:
        return True


class Attempts:
    """All attempts of this gateway, by id. `idle` is set while none runs; `watchers` are called when one has ended,
    which is the `last` so far.
    """

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.idle = asyncio.Event()
        self.idle.set()
        self._attempts: dict[str, Attempt] = {}
        self._running = 0
        self.last = 0
        self.watchers: set[Callable[[], None]] = set()
        self._over: dict[int, Attempt] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def get(self, id: str) -> Attempt | None:
        """The attempt, until it is acknowledged."""
        return self._attempts.get(id)

    def all(self) -> list[Attempt]:
        """All of them, in the order of their beginning."""
        return list(self._attempts.values())

    @property
    def full(self) -> bool:
        """Are there as many as may be, or do results fill the spool?"""
        return len(self._attempts) >= ATTEMPTS_MAX or self.spool.used >= self.spool.bytes_max

    def begin(self, id: str, endpoint: str, now: float) -> Attempt:
        """A new attempt; its exchange is the caller's business."""
        attempt = self._attempts[id] = Attempt(id, endpoint, self.spool, now, ended=self._ended)
        self._running += 1
        self.idle.clear()
        return attempt

    def ended_after(self, seq: int, limit: int) -> list[Attempt]:
        """Up to `limit` that have ended after that one and are not acknowledged, in their order."""
        found = []
        for attempt in reversed(self._over.values()):
            if attempt.seq <= seq:
                break
            found.append(attempt)
        return found[::-1][:limit]

    def _ended(self, attempt: Attempt) -> None:
        self.last = attempt.seq = self.last + 1
        self._over[attempt.seq] = attempt
        for watcher in tuple(self.watchers):
            watcher()
        self._running -= 1
        if not self._running:
            self.idle.set()

    def forget(self, id: str) -> None:
        """It is acknowledged."""
        attempt = self._attempts.pop(id, None)
        if attempt is not None:
            self._over.pop(attempt.seq, None)
            attempt.body.drop()

    def sweep(self, now: float) -> None:
        """Forget results that nobody wanted for a day."""
        for attempt in self.all():
            if not attempt.running and now - attempt.began_at > RESULT_KEPT_S:
                self.forget(attempt.id)

    def close(self) -> None:
        """End all of them, and leave nothing behind."""
        for attempt in self.all():
            attempt.cancel("gateway_stopped")
            self.forget(attempt.id)

"""The parties to an exchange as it sees them: its client, its limits, and what all exchanges share.

Only protocols and constants: a memory sink can stand in for a client's connection, a test for the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stoker.gateway.admission import Admission, Worker
from stoker.gateway.answers import Answer
from stoker.gateway.head import Headers, ResponseHead
from stoker.gateway.ledger import Ledger
from stoker.gateway.upstream import Pool, Upstreams


class Downstream(Protocol):
    """Where an answer goes: a client's connection, or a sink in memory.

    Calls come as `begin`, any number of `write`, then `finish`; or `answer` alone; `abort` at any time instead of the
    rest. `flush` marks that nothing more comes at once. `alive` looks whether the client is still there when nothing is
    being read from it.
    """

    def go_on(self) -> None: ...

    def interim(self, status: int, headers: Headers) -> None: ...

    def begin(self, head: ResponseHead) -> None: ...

    def write(self, data: bytes) -> None: ...

    def flush(self) -> None: ...

    def finish(self) -> None: ...

    def answer(self, answer: Answer) -> None: ...

    def abort(self) -> None: ...

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def alive(self) -> bool: ...


class Limits(Protocol):
    """Deadlines of one exchange in seconds; `None` is no limit. `EndpointEntry` is one."""

    @property
    def connect_s(self) -> float: ...

    @property
    def first_byte_s(self) -> float | None: ...

    @property
    def idle_s(self) -> float | None: ...

    @property
    def total_s(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class ControlLimits:
    """Control's own: it may take long to answer (`wait`, `logs?follow`), and says so itself."""

    connect_s: float = 5.0
    first_byte_s: float | None = 300.0
    idle_s: float | None = None
    total_s: float | None = None


class Swept(Protocol):
    """Something with deadlines, swept by one timer for all."""

    def sweep(self, now: float, *, look: bool) -> None: ...


class Hub(Protocol):
    """What exchanges share. `now` is the event loop's time at the last sweep, `time()` is exact."""

    now: float
    live: set[Swept]
    ledger: Ledger
    upstreams: Upstreams
    control_pool: Pool

    def time(self) -> float: ...

    def worker_down(self, admission: Admission, worker: Worker, detail: str) -> None: ...

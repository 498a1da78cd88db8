"""The parties to an exchange as it sees them: its client, its limits, and what all exchanges share; and those to a
client's connection: who decides what becomes of a request, and who answers it.

Only protocols and constants: a memory sink can stand in for a client's connection, a test for the gateway.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol, TypeVar

from stoker.gateway.access_log import AccessLog
from stoker.gateway.admission import Admission, Worker
from stoker.gateway.answers import Answer
from stoker.gateway.budget import Budget
from stoker.gateway.forwarded import Network
from stoker.gateway.handover import Successor
from stoker.gateway.head import Headers, Request
from stoker.gateway.ledger import Ledger
from stoker.gateway.pools import Pool, Upstreams
from stoker.gateway.response import ResponseHead

# What a router knows as its clients: their connections.
Client = TypeVar("Client", contravariant=True)


class Downstream(Protocol):
    """Where an answer goes: a client's connection, or a sink in memory.

    Calls come as `begin`, any number of `write`, of `trailer`, then `finish`; or `answer` alone; `abort` at any time
    instead of the rest. `flush` marks that nothing more comes at once. `alive` looks whether the client is still there
    when nothing is being read from it. For a request that asks to `upgrade`, `switch` sends a 101 and hands over the
    transport and what the client has sent since; `close` then closes it when all is sent, and `connection_lost` tells
    of its end.
    """

    def go_on(self) -> None: ...

    def interim(self, status: int, headers: Headers) -> None: ...

    def begin(self, head: ResponseHead) -> None: ...

    def write(self, data: bytes) -> None: ...

    def flush(self) -> None: ...

    def trailer(self, line: bytes) -> None: ...

    def finish(self) -> None: ...

    def switch(self, head: bytes) -> tuple[asyncio.Transport, bytes] | None: ...

    def close(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

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
    view: memoryview
    live: set[Swept]
    ledger: Ledger
    budget: Budget
    access_log: AccessLog | None
    upstreams: Upstreams
    control_pool: Pool

    def time(self) -> float: ...

    def worker_down(self, admission: Admission, worker: Worker, detail: str) -> None: ...


class Conversation(Protocol):
    """Whoever answers the present request."""

    def body_arrived(self) -> None: ...

    def gone(self) -> None: ...

    def downstream_blocked(self) -> None: ...

    def downstream_writable(self) -> None: ...


class Router(Protocol[Client]):
    """Decides what becomes of a request. `now` is the event loop's time at the last sweep."""

    draining: bool
    # Of one that drains because another takes over: who takes its connections.
    successor: Successor | None

    @property
    def now(self) -> float: ...

    @property
    def view(self) -> memoryview: ...

    @property
    def trusted(self) -> tuple[Network, ...]: ...

    def handle(self, client: Client, request: Request) -> None:
        """Answer the request, now or later: `client.converse` or `client.answer`."""

    def opened(self, client: Client) -> bool:
        """A client has connected. False: there are too many."""

    def closed(self, client: Client) -> None: ...

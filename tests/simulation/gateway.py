"""A gateway of a hundred lines on virtual time, speaking the real link: FIFO, slots, draining, reports, wakes.

What it serves are numbers (seconds of service) instead of bytes. It keeps book of every request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from stoker.link.messages import (
    LINE_BYTES_MAX,
    PROTOCOL_VERSION,
    Ack,
    Delta,
    EndpointEntry,
    EndpointReport,
    Hello,
    Message,
    Report,
    Snapshot,
    Wake,
    WorkerDown,
    WorkerEntry,
    decode_to_gateway,
    encode,
)
from stoker.link.server import LinkServer

REPORT_PERIOD_S = 0.25
HEARTBEAT_S = 1.0


class _Pipe:
    """The writing half that `LinkServer` sees, handing whole lines to the gateway at once."""

    def __init__(self, gateway: SimulatedGateway) -> None:
        self._gateway = gateway
        self._closed = False
        self.transport = self

    def write(self, data: bytes) -> None:
        for line in data.splitlines():
            self._gateway.hear(line)

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0


@dataclass(eq=False)
class Request:
    """One request. `outcome` is `done`, `refused` or `cut`."""

    service_s: float
    arrived_at: float
    started_at: float | None = None
    worker: str | None = None
    outcome: str | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, outcome: str) -> None:
        assert self.outcome is None, "a request ends once"
        self.outcome = outcome
        self.ended.set()


@dataclass
class _Endpoint:
    entry: EndpointEntry
    waiting: deque[Request] = field(default_factory=deque)
    running: dict[str, list[Request]] = field(default_factory=dict)
    arrivals: int = 0
    completions: int = 0
    refusals: int = 0


class SimulatedGateway:
    """Connect it with `connect`; `silent` makes it deaf and dumb without closing the connection; `reconnect` is what it
    does after that, or to a new control, its requests going on.
    """

    def __init__(self, link: LinkServer) -> None:
        self._link = link
        self._reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        self._endpoints: dict[str, _Endpoint] = {}
        self._seq = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._pipe = _Pipe(self)
        self._down: set[str] = set()
        self.silent = False
        self.touched: set[str] = set()
        self.requests: list[Request] = []
        self.reports = 0

    def connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._link.converse(self._reader, self._pipe)))  # type: ignore[arg-type]
        self.say(Hello(PROTOCOL_VERSION, "simulated", 0))
        self._tasks.append(loop.create_task(self._report()))

    async def close(self) -> None:
        """The connection ends; requests go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._pipe.close()
        self._link.gone(self._pipe)  # type: ignore[arg-type]

    async def reconnect(self, link: LinkServer) -> None:
        """Connect again, perhaps to another control. Everything that was missed meanwhile is in its snapshot."""
        await self.close()
        self._link, self._reader, self._pipe = link, asyncio.StreamReader(limit=LINE_BYTES_MAX), _Pipe(self)
        self.silent = False
        self.connect()

    def say(self, message: Message) -> None:
        if not self.silent:
            self._reader.feed_data(encode(message))

    def hear(self, line: bytes) -> None:
        if self.silent:
            return
        message = decode_to_gateway(line)
        if isinstance(message, Snapshot):
            self._replace(message.endpoints)
        if isinstance(message, Delta):
            for entry in message.endpoints:
                known = self._endpoints.setdefault(entry.id, _Endpoint(entry))
                known.entry = entry
                self.touched.add(entry.id)
                self._pump(known)
            for gone in message.endpoints_gone:
                self._endpoints.pop(gone, None)
        if isinstance(message, Snapshot | Delta):
            self._seq = message.seq
            self.touched.update(self._endpoints if isinstance(message, Snapshot) else ())
            asyncio.get_running_loop().call_soon(self.say, Ack(message.seq))

    def _replace(self, entries: tuple[EndpointEntry, ...]) -> None:
        before, self._endpoints = self._endpoints, {}
        for entry in entries:
            known = self._endpoints[entry.id] = before.pop(entry.id, _Endpoint(entry))
            known.entry = entry
            self._pump(known)
        for gone in before.values():
            while gone.waiting:
                gone.waiting.popleft().end("refused")

    def workers(self, endpoint: str) -> tuple[WorkerEntry, ...]:
        return self._endpoints[endpoint].entry.workers if endpoint in self._endpoints else ()

    def entry(self, endpoint: str) -> EndpointEntry | None:
        known = self._endpoints.get(endpoint)
        return None if known is None else known.entry

    def request(self, endpoint: str, service_s: float) -> Request:
        """A request arrives now."""
        request = Request(service_s, asyncio.get_running_loop().time())
        self.requests.append(request)
        known = self._endpoints[endpoint]
        known.arrivals += 1
        self.touched.add(endpoint)
        if known.entry.refusal is not None or len(known.waiting) >= known.entry.waiting_max:
            known.refusals += 1
            request.end("refused")
            return request
        known.waiting.append(request)
        self._pump(known)
        if request in known.waiting:
            self.say(Wake(endpoint, len(known.waiting)))
        return request

    def _pump(self, known: _Endpoint) -> None:
        if known.entry.refusal is not None:
            while known.waiting:
                known.refusals += 1
                known.waiting.popleft().end("refused")
        while known.waiting:
            free = [
                w
                for w in known.entry.workers
                if not w.draining and w.id not in self._down and len(known.running.get(w.id, ())) < w.slots
            ]
            if not free:
                return
            fill = known.entry.fill
            worker = min(free, key=lambda w: (0 if fill else len(known.running.get(w.id, ())), w.order))
            request = known.waiting.popleft()
            request.worker, request.started_at = worker.id, asyncio.get_running_loop().time()
            known.running.setdefault(worker.id, []).append(request)
            asyncio.get_running_loop().call_later(request.service_s, self._finish, known, request)

    def _finish(self, known: _Endpoint, request: Request) -> None:
        if request.outcome is None:
            assert request.worker is not None
            known.running[request.worker].remove(request)
            known.completions += 1
            request.end("done")
        self.touched.add(known.entry.id)
        self._pump(known)

    def on(self, worker: str) -> list[Request]:
        """The requests in flight on this worker."""
        return [r for r in self.requests if r.worker == worker and r.outcome is None]

    def cut(self, worker: str) -> None:
        """This worker is dead: its requests end, visibly, and it gets no more."""
        self._down.add(worker)
        for request in self.on(worker):
            request.end("cut")
        for known in self._endpoints.values():
            if known.running.pop(worker, []):
                self.touched.add(known.entry.id)
            if any(w.id == worker for w in known.entry.workers):
                self.say(WorkerDown(known.entry.id, worker, "connection refused"))

    async def _report(self) -> None:
        began = reported = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(REPORT_PERIOD_S)
            now = asyncio.get_running_loop().time()
            if not self.touched and now - reported < HEARTBEAT_S:
                continue
            reported = now
            entries = tuple(self._entry(self._endpoints[e], now) for e in self.touched if e in self._endpoints)
            self.touched.clear()
            self.reports += 1
            self.say(Report(self._seq, now - began, entries))

    def _entry(self, known: _Endpoint, now: float) -> EndpointReport:
        workers = {w.id: 0 for w in known.entry.workers}
        workers |= {worker: len(requests) for worker, requests in known.running.items() if requests}
        return EndpointReport(
            id=known.entry.id,
            in_flight=sum(workers.values()),
            waiting=len(known.waiting),
            oldest_wait_s=now - known.waiting[0].arrived_at if known.waiting else 0.0,
            arrivals=known.arrivals,
            completions=known.completions,
            errors=0,
            refusals=known.refusals,
            busy_s=0.0,
            wait_s=0.0,
            workers=workers,
        )

"""Small POSTs over keep-alive connections, each sent when the one before is answered; prints what came as JSON.

`python -m data_plane.unary_load PORT TARGET CONNECTIONS REQUESTS [--traced]`; `--traced`: each with another
`traceparent`, so that no two heads are the same.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from typing import cast

import msgspec
import uvloop
from data_plane.answers import ANSWER, QUESTIONS, request


class Result(msgspec.Struct):
    """What came of a run: complete and right answers, others with their status or a word, latencies in ms."""

    right: int = 0
    wrong: dict[str, int] = {}
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    wall_s: float = 0.0


class Run:
    """So many requests, by as many connections as take part."""

    def __init__(self, requests: int) -> None:
        self.left = requests
        self.under_way = 0
        self.times: list[float] = []
        self.wrong: dict[str, int] = {}
        self.done = asyncio.Event()

    def failed(self, what: str) -> None:
        """A request that was not answered as it should be."""
        self.wrong[what] = self.wrong.get(what, 0) + 1
        self.ended()

    def ended(self) -> None:
        """One less under way."""
        self.under_way -= 1
        if not self.left and not self.under_way:
            self.done.set()

    def result(self, wall_s: float) -> Result:
        """All of it."""
        times = sorted(self.times)
        return Result(len(times), self.wrong, 1e3 * at(times, 0.5), 1e3 * at(times, 0.99), wall_s)


def at(times: list[float], share: float) -> float:
    """The quantile of sorted times."""
    return times[min(len(times) - 1, int(share * len(times)))] if times else 0.0


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: Run, messages: Iterator[bytes]) -> None:
        self._run = run
        self._messages = messages
        self._began = 0.0
        self._got = b""
        self._busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self) -> None:
        """Send a request, if there is one left."""
        if self._run.left and self._transport is not None:
            self._run.left -= 1
            self._run.under_way += 1
            self._busy = True
            self._began = time.perf_counter()
            self._transport.write(next(self._messages))

    def data_received(self, data: bytes) -> None:
        if self._got:
            data = self._got + data
        if not data.endswith((ANSWER, b"\r\n0\r\n\r\n")) or b"\r\n\r\n" not in data:
            self._got = data
            if not data.startswith(b"HTTP/1.1 200"):
                self._end(f"status {data[9:12].decode('latin-1')}")
                assert self._transport is not None
                self._transport.abort()
            return
        self._got = b""
        if data.startswith(b"HTTP/1.1 200") and ANSWER in data:
            self._run.times.append(time.perf_counter() - self._began)
            self._busy = False
            self._run.ended()
        else:
            self._end("another answer")
        self.ask()

    def _end(self, what: str) -> None:
        if self._busy:
            self._busy = False
            self._run.failed(what)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end("connection lost")


def messages(target: str, *, traced: bool) -> Iterator[bytes]:
    """Requests of different lengths, without end."""
    if not traced:
        yield from itertools.cycle([request(target, question) for question in QUESTIONS])
    parts = [request(target, question, "traceparent: 00-%-01").split(b"%") for question in QUESTIONS]
    for number in itertools.count():
        before, after = parts[number % len(parts)]
        yield b"%b%032x-%016x%b" % (before, number, number, after)


async def load(port: int, target: str, connections: int, requests: int, *, traced: bool) -> Result:
    """Run it."""
    loop = asyncio.get_running_loop()
    run = Run(requests)
    source = messages(target, traced=traced)
    clients = [
        (await loop.create_connection(lambda: Client(run, source), "127.0.0.1", port))[1] for _ in range(connections)
    ]
    began = time.perf_counter()
    for client in clients:
        client.ask()
    try:
        await asyncio.wait_for(run.done.wait(), 120.0)
    except TimeoutError:
        run.wrong["no answer"] = run.under_way + run.left
    return run.result(time.perf_counter() - began)


if __name__ == "__main__":
    arguments = sys.argv[1:5]
    found = uvloop.run(
        load(int(arguments[0]), arguments[1], int(arguments[2]), int(arguments[3]), traced="--traced" in sys.argv)
    )
    sys.stdout.buffer.write(msgspec.json.encode(found))

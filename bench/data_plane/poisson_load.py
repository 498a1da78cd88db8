"""Requests that arrive at random, at most 64 under way.

`python -m data_plane.poisson_load PORT TARGET RATE SECONDS` prints the result as JSON. A latency begins when its
request arrives, not when a connection is free.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import random
import sys
import time
from collections import deque
from typing import Final, cast

import msgspec
import uvloop
from data_plane.answers import ANSWER, QUESTIONS, request
from data_plane.unary_load import Result, Run

CONNECTIONS: Final = 64


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: Run, idle: deque[Client], waiting: deque[tuple[float, bytes]]) -> None:
        self._run = run
        self._idle = idle
        self._waiting = waiting
        self._arrived: float | None = None
        self._got = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, arrived: float, data: bytes) -> None:
        """Send a request that has arrived at this time."""
        assert self._transport is not None
        self._arrived = arrived
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._got.endswith(ANSWER) or self._arrived is None:
            return
        if self._got.startswith(b"HTTP/1.1 200"):
            self._run.times.append(time.monotonic() - self._arrived)
            self._run.ended()
        else:
            self._run.failed(f"status {self._got[9:12].decode('latin-1')}")
        self._got, self._arrived = b"", None
        if self._waiting:
            self.ask(*self._waiting.popleft())
        else:
            self._idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._arrived is not None:
            self._run.failed("connection lost")


class Alarm:
    """A timer of the kernel's: the event loop's own know milliseconds, and arrivals are closer than that."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)

    def set(self, at: float) -> None:
        """Ring at this time of the monotonic clock."""
        seconds = int(at)
        spec = (ctypes.c_long * 4)(0, 0, seconds, int((at - seconds) * 1e9) + 1)
        self._libc.timerfd_settime(self.descriptor, 1, spec, None)


class Arrivals:
    """Requests that arrive at random, so many a second."""

    def __init__(self, run: Run, rate: float, target: str) -> None:
        self.idle: deque[Client] = deque()
        self.waiting: deque[tuple[float, bytes]] = deque()
        self._run = run
        self._rate = rate
        self._source = itertools.cycle([request(target, question) for question in QUESTIONS])
        self._chance = random.Random(7)
        self._alarm = Alarm()
        self._due = 0.0

    def begin(self) -> None:
        """The first arrives soon."""
        self._due = time.monotonic() + 0.01
        asyncio.get_running_loop().add_reader(self._alarm.descriptor, self._rung)
        self._alarm.set(self._due)

    def _rung(self) -> None:
        os.read(self._alarm.descriptor, 8)
        run = self._run
        while run.left and self._due <= time.monotonic():
            run.left -= 1
            run.under_way += 1
            if self.idle:
                self.idle.popleft().ask(self._due, next(self._source))
            else:
                self.waiting.append((self._due, next(self._source)))
            self._due += self._chance.expovariate(self._rate)
        if run.left:
            self._alarm.set(self._due)


async def load(port: int, target: str, rate: float, seconds: float) -> Result:
    """Run it."""
    loop = asyncio.get_running_loop()
    run = Run(int(rate * seconds))
    arrivals = Arrivals(run, rate, target)
    for _ in range(CONNECTIONS):
        _, client = await loop.create_connection(
            lambda: Client(run, arrivals.idle, arrivals.waiting), "127.0.0.1", port
        )
        arrivals.idle.append(client)
    began = time.monotonic()
    arrivals.begin()
    try:
        await asyncio.wait_for(run.done.wait(), seconds + 30.0)
    except TimeoutError:
        run.wrong["no answer"] = run.under_way + run.left
    return run.result(time.monotonic() - began)


if __name__ == "__main__":
    found = uvloop.run(load(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
    sys.stdout.buffer.write(msgspec.json.encode(found))

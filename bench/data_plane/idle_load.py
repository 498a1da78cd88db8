"""Clients that ask once and keep their connection: `python -m data_plane.idle_load PORT TARGET CLIENTS`.

Prints how many were answered, waits until its input ends, and prints how many connections are still open.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop
from data_plane.answers import ANSWER, QUESTIONS, request


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, data: bytes, answered: asyncio.Semaphore) -> None:
        self._data = data
        self._got = b""
        self._answered = answered
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.open = True
        cast(asyncio.Transport, transport).write(self._data)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._got.startswith(b"HTTP/1.1 200") and self._got.endswith(ANSWER):
            self._got = b""
            self._answered.release()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False


async def load(port: int, target: str, count: int) -> None:
    """Run it."""
    loop = asyncio.get_running_loop()
    data = request(target, QUESTIONS[0])
    answered = asyncio.Semaphore(0)
    clients: list[Client] = []
    served = 0
    try:
        for _ in range(count):
            _, client = await loop.create_connection(lambda: Client(data, answered), "127.0.0.1", port)
            clients.append(client)
            await asyncio.wait_for(answered.acquire(), 30.0)
            served += 1
    except (OSError, TimeoutError) as exc:
        sys.stderr.write(f"after {served} clients: {exc!r}\n")
    sys.stdout.write(f"{served}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    sys.stdout.write(f"{sum(client.open for client in clients)}\n")


if __name__ == "__main__":
    uvloop.run(load(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))

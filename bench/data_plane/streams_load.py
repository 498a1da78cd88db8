"""Many streams of events at once, each checked to its last byte; prints marks while they run and a result as JSON.

`python -m data_plane.streams_load PORT TARGET STREAMS CHUNKS EVERY_MS WINDOW_S`. A mark is a line with the number
of chunks that have come so far and of streams under way: when all have run for a second, and again WINDOW_S later.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from typing import Final, cast

import httptools
import msgspec
import uvloop
from data_plane.answers import LAST_CHUNK, QUESTIONS, chunk, request

STARTS_PER_S: Final = 500


class Result(msgspec.Struct):
    """How many streams came whole and right, and what happened to the others."""

    right: int = 0
    broken: dict[str, int] = {}


class Run:
    """All streams of a run."""

    def __init__(self, streams: int, chunks: int) -> None:
        self.left = streams
        self.begun = 0
        self.pieces = 0
        self.result = Result()
        self.done = asyncio.Event()
        events = b"".join(map(chunk, range(chunks))) + LAST_CHUNK
        self.expected = (len(events), zlib.crc32(events))
        self.chunk_bytes = len(chunk(0))
        self.bytes = 0

    def ended(self, what: str | None) -> None:
        """A stream is over; `what` went wrong."""
        self.left -= 1
        if what is None:
            self.result.right += 1
        else:
            self.result.broken[what] = self.result.broken.get(what, 0) + 1
        if not self.left:
            self.done.set()


class Stream(asyncio.Protocol):
    """One stream."""

    def __init__(self, run: Run, data: bytes) -> None:
        self._run = run
        self._data = data
        self._parser = httptools.HttpResponseParser(self)
        self._length = self._sum = 0
        self._over = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._data)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        self._run.begun += 1
        if self._parser.get_status_code() != 200:
            self._end(f"status {self._parser.get_status_code()}")

    def on_body(self, data: bytes) -> None:
        self._length += len(data)
        self._run.bytes += len(data)
        self._sum = zlib.crc32(data, self._sum)

    def on_message_complete(self) -> None:
        self._end(None if (self._length, self._sum) == self._run.expected else "another body")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"cut after {self._length} bytes")

    def _end(self, what: str | None) -> None:
        if not self._over:
            self._over = True
            self._run.ended(what)
            if self._transport is not None:
                self._transport.close()


async def load(port: int, target: str, streams: int, chunks: int, every_ms: int, window_s: float) -> Result:
    """Run it."""
    loop = asyncio.get_running_loop()
    run = Run(streams, chunks)
    data = request(target, QUESTIONS[0], f"X-Chunks: {chunks}", f"X-Every: {every_ms}")
    began = loop.time()
    for number in range(streams):
        await loop.create_connection(lambda: Stream(run, data), "127.0.0.1", port)
        if (ahead := began + number / STARTS_PER_S - loop.time()) > 0:
            await asyncio.sleep(ahead)
    while run.begun < streams and not run.done.is_set():  # noqa: ASYNC110 - counted where every stream begins
        await asyncio.sleep(0.05)
    for wait_s in (1.0, window_s):
        await asyncio.sleep(wait_s)
        sys.stdout.write(f"{run.bytes // run.chunk_bytes} {run.left}\n")
        sys.stdout.flush()
    try:
        await asyncio.wait_for(run.done.wait(), 60.0 + chunks * every_ms / 1_000)
    except TimeoutError:
        run.result.broken["no end"] = run.left
    return run.result


if __name__ == "__main__":
    port, target, streams, chunks, every_ms, window_s = sys.argv[1:7]
    found = uvloop.run(load(int(port), target, int(streams), int(chunks), int(every_ms), float(window_s)))
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")

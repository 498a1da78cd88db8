"""A worker that costs little: `python -m data_plane.worker PORT`. One process, one event loop, no framework.

POST /v1/chat/completions answers at once, or, with `"stream":true`, with events: the headers X-Chunks and X-Every (in
milliseconds) say how many and how often. POST /upload answers with length and checksum of the body.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from typing import cast

import httptools
import uvloop
from data_plane.answers import ANSWER, ANSWER_HEAD, LAST_CHUNK, chunk

_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: bench\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_CHUNKS = [b"%x\r\n%b\r\n" % (len(data), data) for data in map(chunk, range(10_000))]


class WorkerConnection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._target = b""
        self._length = 0
        self._sum = 0
        self._chunks = 0
        self._every_s = 0.05
        self._stream: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._stream is not None:
            self._stream.cancel()

    def on_url(self, url: bytes) -> None:
        self._target = url
        self._length = self._sum = self._chunks = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if name[:2] in (b"X-", b"x-"):
            lower = name.lower()
            if lower == b"x-chunks":
                self._chunks = int(value)
            elif lower == b"x-every":
                self._every_s = int(value) / 1_000

    def on_body(self, data: bytes) -> None:
        if self._target.endswith(b"/upload"):
            self._length += len(data)
            self._sum = zlib.crc32(data, self._sum)

    def on_message_complete(self) -> None:
        assert self._transport is not None
        if self._chunks:
            self._transport.write(_STREAM_HEAD)
            loop = asyncio.get_running_loop()
            # Streams that began together spread over the interval, as those of an engine's many users do.
            self._stream = loop.call_later(self._every_s * (id(self) // 64 % 97) / 97, self._tick, 0, loop.time())
        elif self._target.endswith(b"/upload"):
            body = b'{"bytes":%d,"crc32":%d}' % (self._length, self._sum)
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        else:
            self._transport.write(ANSWER_HEAD + ANSWER)

    def _tick(self, index: int, due: float) -> None:
        if self._transport is None:
            return
        if index >= self._chunks:
            self._stream = None
            self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(LAST_CHUNK), LAST_CHUNK))
            return
        self._transport.write(_CHUNKS[index])
        # From when it was due, not from now: else a busy machine would be asked for less.
        self._stream = asyncio.get_running_loop().call_at(
            due + self._every_s, self._tick, index + 1, due + self._every_s
        )


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(WorkerConnection, "127.0.0.1", port, backlog=16_384)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))

"""A mixed load that knows what each answer has to be: small POSTs, uploads and streams, every one accounted for.

`python -m data_plane.chaos_load PORT TARGET UPLOAD SECRET SECONDS` prints the account as JSON. Times are those of
the machine's monotonic clock, so that others can say what else happened then.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Final

import msgspec
import uvloop
from data_plane.answers import ANSWER, LAST_CHUNK, QUESTIONS, chunk, request

CHUNKS: Final = 40
EVERY_MS: Final = 50
UPLOAD_BYTES_MAX: Final = 2_000_000
_EVENTS: Final = b"".join(map(chunk, range(CHUNKS))) + LAST_CHUNK
_PATIENCE_S: Final = 60.0
# A refusal is honest when it says why and when to come again.
_REFUSALS: Final = (429, 503)


class StreamRun(msgspec.Struct):
    """One stream that began: on which worker, when, and whether it came to its end."""

    worker: str
    began_at: float
    ended_at: float
    whole: bool


class Lost(msgspec.Struct):
    """A request that a worker took and did not answer: the gateway's word for it is `worker_failed`."""

    kind: str
    began_at: float
    ended_at: float


class Account(msgspec.Struct):
    """What became of everything. `wrong`: what must never happen."""

    right: dict[str, int] = {}
    refused: dict[str, int] = {}
    lost: list[Lost] = []
    streams: list[StreamRun] = []
    wrong: dict[str, int] = {}


class Cut(Exception):
    """The connection ended within an answer."""


@dataclass(slots=True)
class Answered:
    """The head of an answer, and its body as it comes."""

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]


class Connection:
    """One keep-alive connection; opened again when it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, data: bytes) -> Answered:
        """Send a request. Raises `Cut` or `OSError`."""
        if self._reader is None or self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(data)
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError) as exc:
            self.close()
            raise Cut(f"before an answer: {exc!r}") from exc
        first, *lines = head[:-4].split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Answered(int(first.split(" ")[1]), headers, self._body(self._reader, headers))

    async def _body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
        try:
            if "content-length" in headers:
                yield await reader.readexactly(int(headers["content-length"]))
            else:
                while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
                    yield (await reader.readexactly(size + 2))[:-2]
                await reader.readexactly(2)
        except (asyncio.IncompleteReadError, ConnectionError) as exc:
            self.close()
            raise Cut("within an answer") from exc
        if headers.get("connection", "").lower() == "close":
            self.close()

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


class Load:
    """All clients, and their account."""

    def __init__(self, port: int, target: str, upload: str, secret: str) -> None:
        self.account = Account()
        self._port = port
        self._target = target
        self._upload = upload
        self._secret = secret
        self._numbers = itertools.count()

    async def run(self, seconds: float) -> None:
        """Ask for so long, and wait for what is under way then."""
        until = time.monotonic() + seconds
        clients = ((24, self._post, "post"), (6, self._send, "upload"), (16, self._stream, "stream"))
        work = [self._client(kind, ask, until, seat) for count, ask, kind in clients for seat in range(count)]
        await asyncio.gather(*work)

    async def _client(
        self, kind: str, ask: Callable[[Connection, random.Random], Coroutine[None, None, str]], until: float, seat: int
    ) -> None:
        connection, chance = Connection(self._port), random.Random(f"{kind}{seat}")
        while time.monotonic() < until:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    what = await ask(connection, chance)
            except (Cut, OSError, TimeoutError) as exc:
                connection.close()
                self._count(self.account.wrong, f"{kind}: {exc!r}")
            else:
                if what:
                    self._count(self.account.wrong, f"{kind}: {what}")
            await asyncio.sleep(chance.uniform(0.0, 0.02))
        connection.close()

    def _count(self, counts: dict[str, int], what: str) -> None:
        counts[what] = counts.get(what, 0) + 1

    async def _judge(self, kind: str, answered: Answered, expected: bytes, began_at: float) -> str:
        body = b"".join([piece async for piece in answered.body])
        if answered.status == 200 and body == expected:
            self._count(self.account.right, kind)
            return ""
        reason = answered.headers.get("x-stoker-reason")
        if answered.status in _REFUSALS and reason and "retry-after" in answered.headers:
            self._count(self.account.refused, f"{kind}: {answered.status} {reason}")
            return ""
        if answered.status == 502 and reason == "worker_failed":
            self.account.lost.append(Lost(kind, began_at, time.monotonic()))
            return ""
        return f"{answered.status} {reason} with {len(body)} bytes"

    async def _post(self, connection: Connection, chance: random.Random) -> str:
        began_at = time.monotonic()
        answered = await connection.ask(request(self._target, chance.choice(QUESTIONS), secret=self._secret))
        return await self._judge("post", answered, ANSWER, began_at)

    async def _send(self, connection: Connection, chance: random.Random) -> str:
        began_at = time.monotonic()
        body = chance.randbytes(chance.randrange(UPLOAD_BYTES_MAX))
        expected = b'{"bytes":%d,"crc32":%d}' % (len(body), zlib.crc32(body))
        answered = await connection.ask(request(self._upload, body, secret=self._secret))
        what = await self._judge("upload", answered, expected, began_at)
        if answered.status != 200:
            # It may have been answered before the body was read.
            connection.close()
        return what

    async def _stream(self, connection: Connection, chance: random.Random) -> str:
        began_at = time.monotonic()
        headers = (f"X-Chunks: {CHUNKS}", f"X-Every: {EVERY_MS}", f"X-Stoker-Session: {next(self._numbers)}")
        answered = await connection.ask(request(self._target, QUESTIONS[0], *headers, secret=self._secret))
        if answered.status != 200:
            return await self._judge("stream", answered, b"", began_at)
        worker = answered.headers.get("x-stoker-worker", "")
        began_at = time.monotonic()
        got, whole = b"", True
        try:
            async for piece in answered.body:
                got += piece
        except Cut:
            whole = False
        self.account.streams.append(StreamRun(worker, began_at, time.monotonic(), whole))
        if got != _EVENTS[: len(got)] or (whole and got != _EVENTS):
            return f"another body after {len(got)} bytes"
        if whole:
            self._count(self.account.right, "stream")
        return ""


async def main(port: int, target: str, upload: str, secret: str, seconds: float) -> None:
    """Run it and print the account."""
    load = Load(port, target, upload, secret)
    await load.run(seconds)
    sys.stdout.write(json.dumps(msgspec.to_builtins(load.account)))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5])))

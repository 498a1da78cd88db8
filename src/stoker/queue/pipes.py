"""A connection to a gateway's own socket that many requests share: HTTP/1.1, written one behind the other, answered in
that order. For small requests and answers of which there are many; `stoker.queue.attempts` uses it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HEAD_BYTES_MAX: Final = 64 * 1024
BODY_BYTES_MAX: Final = 16 * 1024 * 1024
# Requests on their way at once: what comes then waits for its turn in the caller.
PENDING_MAX: Final = 20_000


class PipeBroken(Exception):
    """The connection is gone: whatever was not answered may or may not have been done."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. Names of headers are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Pipe(asyncio.Protocol):
    """See the module. Open one with `connect`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._in = bytearray()
        self._head: tuple[int, dict[str, str], int] | None = None
        self._out: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.broken = False

    @classmethod
    async def connect(cls, path: Path) -> Pipe:
        """Raises `OSError`."""
        _, pipe = await asyncio.get_running_loop().create_unix_connection(cls, str(path))
        return pipe

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or transport is not None
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._break(str(exc or "closed by the gateway"))

    def _break(self, why: str) -> None:
        self.broken = True
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(PipeBroken(why))
                # Of one whose caller has given up, nobody else hears it.
                future.exception()

    def close(self) -> None:
        """Whoever still waits hears that it is broken."""
        self._break("closed")
        if self._transport is not None:
            self._transport.close()

    async def ask(self, method: str, target: str, *, lines: str = "", body: bytes = b"", timeout_s: float) -> Reply:
        """One request; `lines` are complete header lines. Raises `PipeBroken`, also when no answer comes in time: what
        is written behind it would wait as well.
        """
        if self.broken or len(self._waiting) >= PENDING_MAX:
            raise PipeBroken("there is no connection" if self.broken else "too many requests wait for their answers")
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting.append(future)
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(head.encode("latin-1"))
        if body:
            self._out.append(body)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(future)
        except TimeoutError:
            self.close()
            raise PipeBroken(f"no answer within {timeout_s:g} s") from None

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and not self.broken:
            self._transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        self._in += data
        while self._waiting and (reply := self._next()) is not None:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(reply)

    def _next(self) -> Reply | None:
        if self._head is None:
            end = self._in.find(b"\r\n\r\n")
            if end < 0:
                if len(self._in) > HEAD_BYTES_MAX:
                    self.close()
                return None
            self._head = _head_of(bytes(self._in[:end]))
            del self._in[: end + 4]
        status, headers, length = self._head
        if length > BODY_BYTES_MAX:
            self.close()
            return None
        if len(self._in) < length:
            return None
        body = bytes(self._in[:length])
        del self._in[:length]
        self._head = None
        return Reply(status, headers, body)


def _head_of(head: bytes) -> tuple[int, dict[str, str], int]:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first[9:12]), headers, int(headers.get("content-length", "0"))

"""The worker that all queues call, `python worker.py PORT`: answers each POST at once and counts them. Standard
library only, so that a queue's own process can start it.

`GET /counts` says how many posts came, and how late those were that carry the time they were sent at; `GET /reset`
begins anew.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Counts:
    """What came."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing yet."""
        self.posts = 0
        self.late_s: list[float] = []

    def to_json(self) -> bytes:
        """For whoever asks."""
        return json.dumps({"posts": self.posts, "late_s": self.late_s}).encode()


class Connection(asyncio.Protocol):
    """One connection; requests one after the other."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._transport: asyncio.Transport | None = None
        self._in = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._in += data
        while (end := self._in.find(b"\r\n\r\n")) >= 0:
            head, length = self._in[:end].lower(), 0
            if (at := head.find(b"content-length:")) >= 0:
                length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self._in) < end + 4 + length:
                return
            body, self._in = self._in[end + 4 : end + 4 + length], self._in[end + 4 + length :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        if head.startswith(b"post"):
            self._counts.posts += 1
            if body.startswith(b'{"sent_at"'):
                self._counts.late_s.append(time.time() - json.loads(body)["sent_at"])
            self._transport.write(OK)
        elif head.startswith(b"get /reset"):
            self._counts.reset()
            self._transport.write(OK)
        else:
            said = self._counts.to_json()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))


async def main(port: int) -> None:
    """Serve until the end."""
    counts = Counts()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(counts), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))

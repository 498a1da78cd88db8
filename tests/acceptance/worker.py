"""A worker for the tests: a small HTTP/1.1 server, standard library only. Started as a command by Stoker itself.

`/health`; `/who` answers the process id; `/slow?s=1` answers after so long, `/held?by=FILE` once there is such a file;
`/stream?n=5&pause=0.2` sends chunks, the last one, with `&by=FILE`, once there is that; `/headers` answers the
request's head; `/peak` the most requests that there were at once. Bodies are echoed by POST to any path but these.
With a file as its second argument it opens its port once that is there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from urllib.parse import parse_qs, urlsplit


class Load:
    """Requests at once, probes and questions about it not counted."""

    present = 0
    peak = 0


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, _ = head.split("\r\n", 1)[0].split(" ")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            path = urlsplit(target).path
            counts = path not in ("/health", "/peak")
            Load.present += counts
            Load.peak = max(Load.peak, Load.present)
            left = [counts]
            try:
                await answer(writer, method, path, parse_qs(urlsplit(target).query), body, headers, left)
            finally:
                leave(left)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def there(path: str) -> None:
    """Wait for this file, by which a test lets something go on."""
    while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240 - the test is another process
        await asyncio.sleep(0.02)


def leave(left: list[bool]) -> None:
    """Before the last byte goes out: with that the slot is free for the next."""
    Load.present -= left[0]
    left[0] = False


async def answer(
    writer: asyncio.StreamWriter,
    method: str,
    path: str,
    query: dict[str, list[str]],
    body: bytes,
    headers: dict[str, str],
    left: list[bool],
) -> None:
    if path == "/stream":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        count = int(query["n"][0])
        for number in range(count):
            if number == count - 1 and "by" in query:
                await there(query["by"][0])
            chunk = f"data: {number}\n\n".encode()
            writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            await writer.drain()
            await asyncio.sleep(float(query["pause"][0]))
        leave(left)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return
    if path == "/slow":
        await asyncio.sleep(float(query["s"][0]))
    if path == "/held":
        await there(query["by"][0])
    peak = json.dumps({"peak": Load.peak})
    content = {"/who": str(os.getpid()), "/headers": json.dumps(headers), "/peak": peak}.get(path, "ok").encode()
    if method == "POST":
        content = body
    leave(left)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
    await writer.drain()


async def main() -> None:
    sys.stdout.write(f"worker {os.getpid()} serves on {sys.argv[1]}\n")
    if len(sys.argv) > 2:
        await there(sys.argv[2])
    server = await asyncio.start_server(serve_one, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())

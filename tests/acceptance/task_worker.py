"""A worker for the tests of tasks: takes some time for each, and writes down when it began and ended which one.

It gives up as soon as the connection is closed. Standard library only; started as a command by Stoker itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time


async def serve_one(log: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = [line.partition(":") for line in head.split("\r\n")[1:] if line]
            headers = {name.lower(): value.strip() for name, _, value in lines}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            task = headers.get("x-stoker-task-id")
            if task is not None:
                began = time.monotonic()
                whole = await worked(reader, float(json.loads(body)["s"]))
                entry = {"task": task, "began": began, "ended": time.monotonic(), "whole": whole}
                os.write(log, json.dumps(entry).encode() + b"\n")
                if not whole:
                    return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def worked(reader: asyncio.StreamReader, seconds: float) -> bool:
    """False when the other side hung up before the end."""
    hung_up = asyncio.ensure_future(reader.read(1))
    done, _ = await asyncio.wait([hung_up], timeout=seconds)
    hung_up.cancel()
    await asyncio.gather(hung_up, return_exceptions=True)
    return not done


async def main() -> None:
    log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    server = await asyncio.start_server(lambda r, w: serve_one(log, r, w), "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())

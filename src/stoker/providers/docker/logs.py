"""Output of containers: what the daemon streams as lines."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import aiohttp
from aiodocker import Docker

from stoker.domain.times import seconds_of
from stoker.providers.base import LogLine

STREAMS = {1: "stdout", 2: "stderr"}
_HEADER_BYTES = 8
# A program may write for hours without ending a line.
LINE_BYTES_MAX = 1024 * 1024
# Of a container that is removed, so many lines are kept.
LINES_KEPT = 10_000
# Two lines of one moment still have an order.
_LEAST_S = 1e-6
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d) ")


async def stream(docker: Docker, container: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
    """The last `tail` lines, and those that come. Unknown: none. Errors are the library's."""
    url = f"{docker.docker_host}/{docker.api_version}/containers/{container}/logs"
    params = {"stdout": "1", "stderr": "1", "timestamps": "1", "tail": str(max(0, tail)), "follow": str(int(follow))}
    timeout = aiohttp.ClientTimeout(total=None if follow else 60.0, sock_connect=10.0)
    last = 0.0
    async with docker.session.get(url, params=params, timeout=timeout) as response:
        if response.status == 404:
            return
        response.raise_for_status()
        async for name, text in _lines(response.content):
            stamp, _, rest = text.partition(" ")
            last = max(seconds_of(stamp), last + _LEAST_S)
            yield LogLine(last, name, rest)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str]]:
    """Whole lines out of the frames in which the daemon mixes both streams."""
    unfinished: dict[str, bytes] = {}
    while True:
        try:
            header = await content.readexactly(_HEADER_BYTES)
            data = await content.readexactly(int.from_bytes(header[4:], "big"))
        except asyncio.IncompleteReadError:
            break
        name = STREAMS.get(header[0], "stdout")
        begun = unfinished.get(name, b"")
        if begun and (again := _STAMP.match(data)):
            # The daemon keeps a long line in parts, and stamps each of them.
            data = data[again.end() :]
        *whole, rest = (begun + data).split(b"\n")
        unfinished[name] = rest[:LINE_BYTES_MAX]
        for line in whole:
            yield name, line.decode(errors="replace")
    for name, line in unfinished.items():
        if line:
            yield name, line.decode(errors="replace")


async def last(docker: Docker, container: str) -> list[LogLine]:
    """What it said at last. Errors are the library's."""
    return [line async for line in stream(docker, container, tail=LINES_KEPT, follow=False)]

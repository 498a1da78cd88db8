"""HTTP as workers and clients of tests read and write it: bytes, and nothing made good that is wrong."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass
class Asked:
    """A request as a worker got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The value of a header, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass
class Reply:
    """An answer as a client got it. `complete`: it ended as its framing said."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    complete: bool = True
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The value of a header, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


async def read_head(reader: asyncio.StreamReader) -> tuple[list[str], list[tuple[str, str]]] | None:
    """First line, split, and headers; None when the connection ended before."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
    return first.split(" ", 2), headers


async def read_chunk(reader: asyncio.StreamReader, trailers: list[tuple[str, str]] | None = None) -> bytes:
    """One chunk; empty for the last, whose trailers are added to `trailers`."""
    size = int((await reader.readuntil(b"\r\n"))[:-2], 16)
    if size == 0:
        while line := (await reader.readuntil(b"\r\n"))[:-2].decode("latin-1"):
            name, _, value = line.partition(":")
            if trailers is not None:
                trailers.append((name, value.strip(" \t")))
        return b""
    data = await reader.readexactly(size + 2)
    return data[:-2]


async def read_body(
    reader: asyncio.StreamReader,
    headers: list[tuple[str, str]],
    *,
    to_end: bool,
    trailers: list[tuple[str, str]] | None = None,
) -> bytes:
    """The body that the headers announce; with `to_end`, until the connection ends when they announce none."""
    lower = {name.lower(): value for name, value in headers}
    if "transfer-encoding" in lower:
        parts = []
        while part := await read_chunk(reader, trailers):
            parts.append(part)
        return b"".join(parts)
    if "content-length" in lower:
        return await reader.readexactly(int(lower["content-length"]))
    return await reader.read() if to_end else b""


def answer(body: bytes = b"fine", *headers: str, status: str = "200 OK") -> bytes:
    """An answer's bytes."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body

"""The framing of a request's body on its way to a worker. Pure: bytes in, bytes out. Called by `gateway.exchange`."""

from __future__ import annotations

from collections.abc import Sequence

from stoker.gateway.head import Request


def chunk(data: bytes) -> bytes:
    """A piece of a body as a chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def first_piece(head: bytes, request: Request, parts: Sequence[bytes]) -> bytes:
    """Head, framing and what is there of the body. Sets `request.length` of one that is whole by now."""
    if request.length is None:
        if not request.complete or request.trailers:
            pieces = [head, b"Transfer-Encoding: chunked\r\n\r\n", *map(chunk, parts)]
            if request.complete:
                pieces.append(_last_chunk(request))
            return b"".join(pieces)
        # Whole by now: no need for chunks, which not every worker understands.
        request.length = sum(map(len, parts))
        request.chunked = False
    return b"".join((head, b"Content-Length: %d\r\n\r\n" % request.length, *parts))


def next_piece(request: Request, parts: Sequence[bytes]) -> bytes:
    """What has arrived of the body since, with its end when that is there."""
    if not request.chunked:
        return b"".join(parts)
    pieces = [chunk(part) for part in parts]
    if request.complete:
        pieces.append(_last_chunk(request))
    return b"".join(pieces)


def _last_chunk(request: Request) -> bytes:
    if not request.trailers:
        return b"0\r\n\r\n"
    return b"0\r\n%b\r\n" % b"".join(request.trailers)

"""Server-sent events, as routes of the native API send them: what each looks like, and the headers that they need."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

BEAT = b":\n\n"


def event(id: str, name: str, data: str) -> bytes:
    """One event; without a name it is called `message` by whoever reads it."""
    lines = [f"id: {id}", *([f"event: {name}"] if name else []), *(f"data: {line}" for line in data.split("\n"))]
    return ("\n".join(lines) + "\n\n").encode()


def place(id: str) -> bytes:
    """Nothing happened, and this is where to go on."""
    return f"id: {id}\n\n".encode()


def stream(events: AsyncIterator[bytes]) -> StreamingResponse:
    """The answer that consists of them."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)

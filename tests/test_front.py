"""The web server of control at its end: whoever still waits gets an answer that says what to do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from stoker.front import Front


class Held:
    """Routes that answer nothing, or not to the end. `asked` counts those who came."""

    def __init__(self) -> None:
        self.asked = asyncio.Semaphore(0)

    async def silent(self, request: Request) -> Response:
        self.asked.release()
        await asyncio.Event().wait()
        return PlainTextResponse("never")

    async def streams(self, request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"id: 1\n\n"
            self.asked.release()
            await asyncio.Event().wait()

        return StreamingResponse(pieces(), media_type=request.query_params["type"])


def run(body: Callable[[Held, Front, aiohttp.ClientSession], Awaitable[None]]) -> None:
    async def main() -> None:
        held = Held()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            front = Front(listening, grace_s=0.2)
            front.show(Starlette(routes=[Route("/silent", held.silent), Route("/streams", held.streams)]))
            host, port = listening.getsockname()
            async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
                await body(held, front, session)
            await front.close()

    asyncio.run(main())


def test_what_has_no_answer_at_the_end_is_told_to_come_again() -> None:
    async def body(held: Held, front: Front, session: aiohttp.ClientSession) -> None:
        asked = asyncio.create_task(session.get("/silent"))
        await held.asked.acquire()
        await front.close()
        async with await asked as answer:
            assert (answer.status, answer.headers["X-Stoker-Reason"]) == (503, "control_unavailable")
            assert answer.headers["Retry-After"] == "2"
            assert (await answer.json(content_type="application/problem+json"))["status"] == 503

    run(body)


def test_events_end_in_order_at_the_end_and_anything_else_is_seen_to_be_cut() -> None:
    async def body(held: Held, front: Front, session: aiohttp.ClientSession) -> None:
        answers = [await session.get("/streams", params={"type": type}) for type in ("text/event-stream", "text/csv")]
        for _ in answers:
            await held.asked.acquire()
        await front.close()
        events, other = answers
        assert await events.read() == b"id: 1\n\n"
        try:
            await other.read()
        except aiohttp.ClientPayloadError:
            return
        raise AssertionError("half of a file looks like a whole one")

    run(body)

"""Many requests on one connection: answered in their order, and all told when it breaks."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stoker.queue.pipes import Pipe, PipeBroken

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(tmp_path: Path, serve: Serve, body: Callable[[Pipe], Awaitable[None]]) -> None:
    async def main() -> None:
        server = await asyncio.start_unix_server(serve, str(tmp_path / "s"))
        pipe = await Pipe.connect(tmp_path / "s")
        try:
            await body(pipe)
        finally:
            pipe.close()
            server.close()
            await server.wait_closed()

    asyncio.run(main())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with what it was asked, byte by byte; hangs up when asked for `/end`, and never answers `/never`."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.lower().partition("content-length: ")[2].split("\r\n")[0])
            said = head.split(" ")[1].encode() + await reader.readexactly(length)
            if said == b"/end":
                break
            if said == b"/never":
                await reader.read()
            reply = b"HTTP/1.1 200 OK\r\nX-Said: %d\r\nContent-Length: %d\r\n\r\n%b" % (length, len(said), said)
            for byte in reply:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
    except asyncio.IncompleteReadError:
        pass
    finally:
        writer.close()


def test_answers_come_in_the_order_of_their_requests(tmp_path: Path) -> None:
    async def body(pipe: Pipe) -> None:
        asked = [pipe.ask("POST", f"/{n}", lines="X-A: b\r\n", body=b"x" * n, timeout_s=60) for n in range(20)]
        replies = await asyncio.gather(*asked)
        assert [reply.body for reply in replies] == [b"/%d" % n + b"x" * n for n in range(20)]
        assert replies[3].headers["x-said"] == "3"

    run(tmp_path, echo, body)


def test_whoever_waits_hears_that_the_connection_is_gone_and_nobody_asks_on_it_again(tmp_path: Path) -> None:
    async def body(pipe: Pipe) -> None:
        asked = [pipe.ask("GET", target, timeout_s=60) for target in ("/a", "/end", "/b")]
        first, *others = await asyncio.gather(*asked, return_exceptions=True)
        assert not isinstance(first, BaseException)
        assert [type(other) for other in others] == [PipeBroken, PipeBroken]
        assert pipe.broken
        with pytest.raises(PipeBroken):
            await pipe.ask("GET", "/a", timeout_s=60)

    run(tmp_path, echo, body)


def test_a_silent_other_end_is_as_good_as_none(tmp_path: Path) -> None:
    async def body(pipe: Pipe) -> None:
        with pytest.raises(PipeBroken, match="no answer"):
            await pipe.ask("GET", "/never", timeout_s=0.05)
        assert pipe.broken

    run(tmp_path, echo, body)


def test_a_caller_that_gives_up_puts_nobody_elses_answer_out_of_place(tmp_path: Path) -> None:
    async def body(pipe: Pipe) -> None:
        leaving = asyncio.create_task(pipe.ask("GET", "/a", timeout_s=60))
        await asyncio.sleep(0)
        other = asyncio.create_task(pipe.ask("GET", "/b", timeout_s=60))
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await other).body == b"/b"

    run(tmp_path, echo, body)


def test_the_end_of_what_its_caller_has_given_up_is_no_error_of_anybodys(tmp_path: Path) -> None:
    reported: list[str] = []

    async def body(pipe: Pipe) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(str(context["message"])))
        asking = asyncio.create_task(pipe.ask("GET", "/never", timeout_s=60))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        pipe.close()
        del asking
        await asyncio.sleep(0)
        gc.collect()
        assert reported == []

    run(tmp_path, echo, body)

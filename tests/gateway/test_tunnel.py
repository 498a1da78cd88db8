"""WebSockets: only after the worker's consent, in flight for as long as they last, ended by either side or by time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from gateway.loopback import KEY, Client, Site, Worker, endpoint, fine, run, site, until, worker
from gateway.wire import Asked, answer
from stoker.link.messages import WorkerEntry

ASK = (
    f"GET /e/chat/ws HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\nConnection: keep-alive, Upgrade\r\n"
    "Upgrade: WebSocket\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n"
).encode()
AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: y\r\n"
    b"Set-Cookie: a=b\r\n\r\n"
)


async def echo(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Agrees, then says everything back until the client has said all."""
    writer.write(AGREED)
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    return False


async def idle(s: Site) -> None:
    """Wait until no slot is held."""
    await until(lambda: s.gateway.admissions["id-chat"].in_flight == 0)


@contextlib.asynccontextmanager
async def opened(folder: Path, script: Any = echo, **limits: Any) -> AsyncIterator[tuple[Site, Worker, Client]]:
    """A WebSocket through a gateway."""
    async with worker(script) as w, site(folder, endpoint(w.entry(), **limits)) as s:
        client = await s.connect()
        await client.write(ASK)
        head = await client.head()
        assert (head.status, head.header("Upgrade"), head.header("Connection")) == (101, "websocket", "Upgrade")
        assert (head.header("Sec-WebSocket-Accept"), head.header("Set-Cookie")) == ("y", None)
        yield s, w, client


def test_bytes_pass_both_ways_and_the_slot_is_held_until_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (s, w, client):
            assert (w.asked[0].header("Upgrade"), w.asked[0].header("Connection")) == ("websocket", "Upgrade")
            assert w.asked[0].header("X-API-Key") is None
            for size in (1, 100_000):
                await client.write(b"x" * size)
                assert await client.reader.readexactly(size) == b"x" * size
            assert s.gateway.admissions["id-chat"].in_flight == 1
            client.close()
            await idle(s)
            await until(lambda: w.open == 0)
            await until(lambda: s.reports("id-chat")[-1].completions == 1)

    run(main)


def test_a_side_that_has_said_all_can_still_listen(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(AGREED)
        writer.write(b"got " + await reader.read())
        return False

    async def main() -> None:
        async with opened(tmp_path, script) as (s, _, client):
            await client.write(b"all")
            client.writer.write_eof()
            assert await client.ended() == b"got all"
            await idle(s)
            client.close()
            await until(lambda: not s.gateway.clients)

    run(main)


def test_what_comes_early_is_passed_on_and_only_after_the_consent(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        go.set()
        writer.write(AGREED + b"hello")
        writer.write(await reader.readexactly(5))
        return False

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            await client.write(ASK + b"early")
            assert (await client.head()).status == 101
            assert go.is_set()
            assert await client.ended() == b"helloearly"
            await idle(s)

    run(main)


def test_a_worker_that_does_not_agree_answers_as_to_any_request(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(asked.target.encode()))

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            await client.write(ASK + ASK.replace(b"/ws", b"/2").replace(b"WebSocket", b"h2c") + ASK)
            assert [(await client.reply()).body for _ in range(3)] == [b"/ws", b"/2", b"/ws"]
            assert [asked.header("Upgrade") for asked in w.asked] == ["websocket", None, "websocket"]
            assert w.connections == 1

    run(main)


def test_consent_to_another_protocol_is_a_failure(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
        return bool(await reader.read())

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            await client.write(ASK)
            reply = await client.reply()
            assert (reply.status, reply.header("X-Stoker-Reason")) == (502, "worker_failed")
            await idle(s)

    run(main)


@pytest.mark.parametrize("limits", [{"idle_s": 0.1}, {"total_s": 0.1}])
def test_it_ends_by_time(tmp_path: Path, limits: dict[str, float]) -> None:
    async def main() -> None:
        async with opened(tmp_path, **limits) as (s, w, client):
            assert await client.ended() == b""
            await idle(s)
            await until(lambda: w.open == 0)

    run(main)


def test_one_that_ticks_is_not_idle(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, idle_s=600.0) as (s, _, client):
            for _ in range(8):
                await client.write(b"tick")
                assert await client.reader.readexactly(4) == b"tick"
                s.forward(200.0)
            assert s.gateway.admissions["id-chat"].in_flight == 1
            s.forward(700.0)
            assert await client.ended() == b""

    run(main)


def test_a_worker_that_dies_cuts_it(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(AGREED)
        await reader.read(3)
        writer.transport.abort()
        return False

    async def main() -> None:
        async with opened(tmp_path, script) as (s, _, client):
            await client.write(b"die, now")
            assert await client.ended() == b""
            await idle(s)
            await until(lambda: not s.gateway.clients)

    run(main)


def test_a_side_that_does_not_read_holds_up_the_other_not_the_gateways_memory(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(AGREED)
        await go.wait()
        count = 0
        while data := await reader.read(1_000_000):
            count += len(data)
        writer.write(b"%d" % count)
        return False

    async def main() -> None:
        async with opened(tmp_path, script) as (s, _, client):
            client.writer.write(b"x" * 50_000_000)
            client.writer.write_eof()
            left = -1
            while left != client.writer.transport.get_write_buffer_size():
                left = client.writer.transport.get_write_buffer_size()
                await asyncio.sleep(0.2)
            assert left > 10_000_000
            go.set()
            assert await client.ended() == b"50000000"
            await idle(s)

    run(main)


def test_a_draining_gateway_lets_it_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (s, _, client):
            s.gateway.drain()
            await client.write(b"still here")
            assert await client.reader.readexactly(10) == b"still here"
            assert not s.gateway.emptied.is_set()
            client.close()
            await until(s.gateway.emptied.is_set)

    run(main)


def test_while_it_lasts_it_takes_a_slot_from_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (s, w, client):
            w.script = fine
            assert (await s.ask("GET", "/e/chat/x", "X-Stoker-Hold: 0")).header("X-Stoker-Reason") == "busy"
            waiting = asyncio.create_task(s.ask("GET", "/e/chat/x"))
            await until(lambda: s.gateway.admissions["id-chat"].waiting)
            client.close()
            assert (await waiting).status == 200

    run(main)


def test_a_websocket_library_at_either_end_finds_nothing_in_between(tmp_path: Path) -> None:
    async def say_back(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def main() -> None:
        async with serve(say_back, "127.0.0.1", 0, subprotocols=[Subprotocol("chat")]) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            entry = endpoint(WorkerEntry("w1", "127.0.0.1", port, 2, 1))
            async with site(tmp_path, entry) as s:
                async with connect(
                    f"ws://127.0.0.1:{s.port}/e/chat/ws",
                    additional_headers={"Authorization": f"Bearer {KEY}"},
                    subprotocols=[Subprotocol("chat")],
                    max_size=None,
                    proxy=None,
                ) as client:
                    assert client.subprotocol == "chat"
                    for message in ("hello", "", "x" * 1_000_000, b"\x00" * 70_000):
                        await client.send(message)
                        assert await client.recv() == message
                    await (await client.ping())
                    assert s.gateway.admissions["id-chat"].in_flight == 1
                assert client.close_code == 1000
                await idle(s)
                with pytest.raises(InvalidStatus, match="401"):
                    await connect(f"ws://127.0.0.1:{s.port}/e/chat/ws", proxy=None)

    run(main)

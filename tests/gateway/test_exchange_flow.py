"""Bodies and answers while they pass: what is held, and whom one that does not read holds up."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from gateway.loopback import endpoint, run, site, until, worker
from gateway.scripts import idle
from gateway.wire import Asked, answer, read_body


def test_no_more_of_a_body_is_read_while_waiting_than_may_be_held(tmp_path: Path) -> None:
    total = 8_000_000

    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint()) as s:
            client = await s.connect()
            head = f"POST /e/chat/x HTTP/1.1\r\nHost: a\r\nContent-Length: {total}\r\n"
            head += "X-API-Key: sk-test-0123456789abcdef0123456789abcdef\r\n\r\n"
            client.writer.write(head.encode() + b"x" * total)
            await until(lambda: s.gateway.admissions["id-chat"].waiting == 1)
            [connection] = s.gateway.clients
            request = connection._requests[0]
            await until(lambda: request.pending_bytes)
            await asyncio.sleep(0.05)
            assert s.gateway.budget.used == request.pending_bytes <= 64 * 1024
            await s.control.tell(endpoint(w.entry()))
            assert (await client.reply()).status == 200
            assert len(w.asked[0].body) == total
            client.close()

    run(main)


def test_pieces_of_a_stream_pass_as_they_come_and_a_leaving_client_ends_it(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for number in range(10_000):
                writer.write(b"8\r\ndata: %1d\n\r\n" % (number % 10))
                await writer.drain()
                await asyncio.sleep(0.005)
        return False

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            await client.send("GET", "/e/chat/x")
            assert (await client.head()).status == 200
            assert (await client.reader.readuntil(b"\n\r\n")).startswith(b"8\r\ndata: 0")
            assert s.gateway.admissions["id-chat"].in_flight == 1
            client.close()
            await idle(s)
            await until(lambda: w.open == 0)

    run(main)


def test_a_client_that_does_not_read_holds_up_its_worker_not_the_gateways_memory(tmp_path: Path) -> None:
    sent = 0

    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                writer.write(b"x" * 100_000)
                await writer.drain()
                sent += 100_000
        return False

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            await client.send("GET", "/e/chat/x")
            await client.head()
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.2)
            assert sent < 50_000_000
            [connection] = s.gateway.clients
            assert connection._transport is not None
            assert connection._transport.get_write_buffer_size() < 1_000_000
            assert len(await client.reader.readexactly(100_000_000)) == 100_000_000
            client.close()
            await idle(s)

    run(main)


def test_a_worker_that_does_not_read_holds_up_the_client(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        asked.body = await read_body(reader, asked.headers, to_end=False)
        writer.write(answer())

    go = asyncio.Event()

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            body = b"x" * 30_000_000
            head = f"POST /e/chat/x HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
            client.writer.write(head.encode() + b"X-API-Key: sk-test-0123456789abcdef0123456789abcdef\r\n\r\n" + body)
            await until(lambda: w.asked)
            [connection] = s.gateway.clients
            await until(lambda: connection._pauses)
            go.set()
            assert (await client.reply()).status == 200
            assert w.asked[0].body == body
            client.close()

    run(main)


def test_an_answer_before_the_whole_body_is_passed_on_and_both_sides_close(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(answer(b"too much", status="413 Content Too Large"))
        await reader.read()
        return False

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            await client.write(
                b"POST /e/chat/x HTTP/1.1\r\nHost: a\r\nX-API-Key: sk-test-0123456789abcdef0123456789abcdef\r\n"
                b"Content-Length: 1000000\r\n\r\n" + b"x" * 1000
            )
            reply = await client.reply()
            assert (reply.status, reply.body) == (413, b"too much")
            assert await client.ended() == b""
            await until(lambda: w.open == 0)
            client.close()
            await idle(s)

    run(main)


def test_a_connection_to_a_worker_is_read_again_after_a_client_that_fell_behind(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"x" * 300_000))

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            for _ in range(20):
                await client.send("GET", "/e/chat/x")
            for _ in range(20):
                assert len((await client.reply()).body) == 300_000
            assert w.connections == 1
            await idle(s)

    run(main)

"""Exchanges whose worker fails them: what is tried again, what is cut, and what is said."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest

import ports
from gateway.loopback import Worker, endpoint, run, site, until, worker
from gateway.scripts import idle, never
from gateway.wire import Asked, answer, read_body
from stoker.link.messages import WorkerEntry


def test_a_worker_that_refuses_connections_is_reported_and_another_serves(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w:
            dead = WorkerEntry("dead", "127.0.0.1", ports.free(), 4, 0)
            async with site(tmp_path, endpoint(dead, w.entry())) as s:
                assert (await s.ask("POST", "/e/chat/x", body=b"a")).status == 200
                assert [(down.endpoint, down.worker) for down in s.downs] == [("id-chat", "dead")]
                assert (await s.ask("POST", "/e/chat/x", body=b"a")).status == 200
                assert len(s.downs) == 1
                assert s.gateway.admissions["id-chat"].report(0.0).errors == 0
                await idle(s)

    run(main)


def test_a_request_whose_only_worker_refuses_it_waits_for_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w:
            dead = WorkerEntry("dead", "127.0.0.1", ports.free(), 1, 0)
            async with site(tmp_path, endpoint(dead)) as s:
                asking = asyncio.create_task(s.ask("POST", "/e/chat/x", body=b"hello"))
                await until(lambda: s.downs and s.wakes)
                await s.control.tell(endpoint(w.entry()))
                assert (await asking).status == 200
                assert w.asked[0].body == b"hello"

    run(main)


def test_an_idle_connection_that_the_worker_closed_is_tried_again_once(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        nth = len(w.asked)
        asked.body = await read_body(reader, asked.headers, to_end=False)
        if nth == 2:
            return False
        writer.write(answer())
        return True

    w: Worker

    async def main() -> None:
        nonlocal w
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            for _ in range(2):
                reply = await s.ask("POST", "/e/chat/x", body=b"hello")
                assert (reply.status, reply.body) == (200, b"fine")
            assert [asked.body for asked in w.asked] == [b"hello"] * 3
            assert w.connections == 2
            await idle(s)

    run(main)


def test_a_fresh_connection_that_closes_without_an_answer_is_not_tried_again(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        return False

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            reply = await s.ask("POST", "/e/chat/x", body=b"hello")
            assert (reply.status, reply.header("X-Stoker-Reason")) == (502, "worker_failed")
            assert len(w.asked) == 1
            await idle(s)
            assert s.gateway.admissions["id-chat"].report(0.0).errors == 1

    run(main)


def test_a_body_too_long_to_keep_is_not_sent_a_second_time(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        asked.body = await read_body(reader, asked.headers, to_end=False)
        if len(w.asked) == 1:
            writer.write(answer())
            return True
        return False

    w: Worker

    async def main() -> None:
        nonlocal w
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            assert (await s.ask("POST", "/e/chat/x", body=b"a")).status == 200
            assert (await s.ask("POST", "/e/chat/x", body=b"a" * 100_000)).status == 502
            assert len(w.asked) == 2

    run(main)


@pytest.mark.parametrize(
    "framing",
    [pytest.param("Transfer-Encoding: chunked", id="chunks"), pytest.param("Content-Length: 100", id="length")],
)
def test_a_worker_that_dies_in_mid_answer_cuts_the_client_visibly(tmp_path: Path, framing: str) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        piece = b"3\r\nabc\r\n" if "chunked" in framing else b"abc"
        writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode() + piece)
        await writer.drain()
        return False

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            reply = await s.ask("GET", "/e/chat/x")
            assert (reply.status, reply.complete) == (200, False)
            await idle(s)
            assert s.gateway.admissions["id-chat"].report(0.0).errors == 1

    run(main)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"first_byte_s": 0.1}, "first_byte_timeout"),
        ({"total_s": 0.1}, "total_timeout"),
    ],
)
def test_a_worker_that_does_not_answer_in_time_is_given_up(tmp_path: Path, limits: dict[str, Any], reason: str) -> None:
    async def main() -> None:
        async with worker(never) as w, site(tmp_path, endpoint(w.entry(), **limits)) as s:
            reply = await s.ask("POST", "/e/chat/x", body=b"a")
            assert (reply.status, reply.header("X-Stoker-Reason")) == (504, reason)
            await idle(s)
            await until(lambda: w.open == 0)

    run(main)


def test_a_stream_that_falls_silent_is_cut(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        return await never(asked, reader, writer)

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry(), idle_s=0.1)) as s:
            reply = await s.ask("GET", "/e/chat/x")
            assert (reply.status, reply.complete) == (200, False)
            await idle(s)

    run(main)


def test_a_connection_that_is_not_accepted_in_time_counts_as_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket() as deaf, contextlib.ExitStack() as stack:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            port = deaf.getsockname()[1]
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            async with worker() as w:
                stuck = WorkerEntry("stuck", "127.0.0.1", port, 1, 0)
                async with site(tmp_path, endpoint(stuck, w.entry(), connect_s=0.5)) as s:
                    assert (await s.ask("POST", "/e/chat/x", body=b"a")).status == 200
                    assert [down.worker for down in s.downs] == ["stuck"]

    run(main)


def test_a_request_to_control_that_changes_something_is_never_sent_twice(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[0])
                if len(asked) % 2 == 0:
                    break
                writer.write(answer())
        writer.close()

    async def main() -> None:
        async with site(tmp_path) as s:
            server = await asyncio.start_unix_server(control, str(s.settings.paths.control_socket))
            assert (await s.ask("GET", "/api/1")).status == 200
            assert (await s.ask("POST", "/api/2")).status == 503
            assert (await s.ask("GET", "/api/3")).status == 200
            assert (await s.ask("GET", "/api/4")).status == 200
            assert asked == [b"GET", b"POST", b"GET", b"GET", b"GET"]
            server.close()

    run(main)

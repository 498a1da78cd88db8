"""Connections that move from a gateway that leaves to its successor, as their clients see it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.loopback import KEY, Site, Worker, endpoint, key, run, site, until, worker
from gateway.test_tls import Contexts, contexts
from gateway.wire import Asked, answer, read_body
from stoker.gateway.connection import ClientConnection
from stoker.gateway.handover import Successor, Takeover
from stoker.gateway.keeper import BEGUN_S_MAX
from stoker.link.messages import KeyEntry, Leaving

__all__ = ["contexts"]


@dataclass
class Pair:
    """A gateway, the one that takes over from it, and the worker that each of them would ask."""

    old: Site
    new: Site
    old_worker: Worker
    new_worker: Worker
    path: Path
    takeover: Takeover
    go: asyncio.Event

    def leave(self) -> None:
        """The old one leaves."""
        self.old.gateway.leave(Successor(self.path, self.old.gateway, self.old.gateway.upstreams.view))


@contextlib.asynccontextmanager
async def pair(
    folder: Path,
    secure: ssl.SSLContext | None = None,
    *,
    taking: bool = True,
    keys: tuple[KeyEntry, ...] | None = None,
) -> AsyncIterator[Pair]:
    """Both serve the same endpoint. The old one's worker waits for `go` at /slow; its answer to /large is 8 MB."""
    go = asyncio.Event()

    async def one(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.body = await read_body(reader, asked.headers, to_end=False)
        if asked.target == "/slow":
            await go.wait()
        writer.write(answer(b"x" * 8_000_000 if asked.target == "/large" else b"old"))

    async def other(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.body = await read_body(reader, asked.headers, to_end=False)
        writer.write(answer(b"new"))

    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(worker(script)) for script in (one, other)]
        sites = [
            await stack.enter_async_context(site(folder / name, endpoint(w.entry(slots=4)), secure=secure, keys=keys))
            for name, w in zip(("a", "b"), workers, strict=True)
        ]
        path = folder / "handover.sock"
        takeover = Takeover(path, lambda peer: ClientConnection(sites[1].gateway, relayed=peer))
        if taking:
            takeover.start()
        stack.callback(takeover.close)
        yield Pair(sites[0], sites[1], workers[0], workers[1], path, takeover, go)


def test_a_connection_that_rests_goes_on_at_the_successor(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as p:
            used, fresh = await p.old.connect(), await p.old.connect()
            await used.send("GET", "/e/chat/x")
            assert (await used.reply()).body == b"old"
            await until(lambda: len(p.old.gateway.clients) == 2)
            p.leave()
            for client in (used, fresh, used):
                await client.send("GET", "/e/chat/x")
                reply = await client.reply()
                assert (reply.body, reply.header("Connection")) == (b"new", None)
            assert p.new_worker.asked[0].header("X-Forwarded-For") == "127.0.0.1"
            await asyncio.wait_for(p.old.gateway.finished(), 10)

    run(main)


def test_what_has_arrived_but_was_not_read_is_the_successors(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as p:
            clients = [await p.old.connect() for _ in range(8)]
            await until(lambda: len(p.old.gateway.clients) == 8)
            for client in clients:
                await client.send("GET", "/e/chat/x")
            # In this turn of the loop: nothing of it has been read.
            p.leave()
            for client in clients:
                assert (await client.reply()).body == b"new"

    run(main)


def test_a_connection_moves_after_the_answer_that_was_under_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as p:
            client = await p.old.connect()
            await client.send("GET", "/e/chat/slow")
            await until(lambda: p.old_worker.asked)
            p.leave()
            p.go.set()
            reply = await client.reply()
            assert (reply.body, reply.header("Connection")) == (b"old", None)
            await client.send("GET", "/e/chat/x")
            assert (await client.reply()).body == b"new"
            await asyncio.wait_for(p.old.gateway.finished(), 10)

    run(main)


def test_a_client_that_reads_slowly_gets_all_of_its_answer_before_its_connection_moves(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as p:
            client = await p.old.connect()
            # Its transport stops reading after some: nobody asks for more.
            await client.send("GET", "/e/chat/large")
            await until(lambda: p.old_worker.asked)
            p.leave()
            await client.head()
            for _ in range(5):
                p.old.gateway.tick()
            assert p.old.gateway.clients
            assert len(await client.reader.readexactly(8_000_000)) == 8_000_000
            await client.send("GET", "/e/chat/x")
            assert (await client.reply()).body == b"new"

    run(main)


def test_more_connections_than_the_way_holds_at_once_all_arrive(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path, taking=False) as p:
            clients = [await p.old.connect() for _ in range(600)]
            await until(lambda: len(p.old.gateway.clients) == 600)
            p.leave()
            # A sweep may come before the old gateway's own ends are closed.
            p.old.gateway.tick()
            await until(lambda: not p.old.gateway.clients)
            for client in clients:
                await client.send("GET", "/healthz")
            assert not p.new.gateway.clients, "nobody takes them yet"
            p.takeover.start()
            for client in clients:
                assert (await client.reply()).status == 200
            assert len(p.new.gateway.clients) == 600

    run(main)


def test_a_request_of_which_a_part_was_here_is_served_here(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as p:
            head, body = await p.old.connect(), await p.old.connect()
            await head.write(b"GET /e/chat/x HTTP/1.1\r\nHost: stoker.test\r\n")
            content = json.dumps({"model": "model-chat"}).encode()
            start = (
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\nContent-Length: {len(content)}"
            )
            await body.write(start.encode() + b"\r\n\r\n" + content[:5])
            await until(lambda: sum(client.begins for client in p.old.gateway.clients) == 1 and p.old.gateway.live)
            p.leave()
            await until(lambda: p.old.control.all(Leaving) and p.old.reports("id-chat"))
            assert p.old.reports("id-chat")[-1].kept == {"w1": 2}, "either may be for this endpoint"
            await head.write(f"X-API-Key: {KEY}\r\n\r\n".encode())
            await body.write(content[5:])
            assert (await head.reply()).body == b"old"
            assert (await body.reply()).body == b"old"
            await until(lambda: p.old.reports("id-chat")[-1].kept == {})
            await head.send("GET", "/e/chat/x")
            assert (await head.reply()).body == b"new"

    run(main)


def test_requests_that_take_too_long_to_arrive_are_told_to_come_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path, keys=(key(concurrency=1),)) as p:
            clients = [await p.old.connect() for _ in range(2)]
            for client in clients:
                await client.write(b"GET /e/chat/x HTTP/1.1\r\nHost: stoker.test\r\n")
            await until(lambda: sum(each.begins for each in p.old.gateway.clients) == 2)
            p.leave()
            p.old.forward(BEGUN_S_MAX)
            await until(lambda: p.old.reports("id-chat") and p.old.reports("id-chat")[-1].kept == {})
            for client in clients:
                await client.write(f"X-API-Key: {KEY}\r\n\r\n".encode())
                reply = await client.reply()
                # The first one does not count as under way when the second one comes.
                told = (reply.status, reply.header("X-Stoker-Reason"), reply.header("Retry-After"))
                assert told == (503, "stopping", "1")
                await client.send("GET", "/e/chat/x")
                assert (await client.reply()).body == b"new"

    run(main)


def test_clients_of_tls_are_served_by_the_successor_through_the_gateway_that_leaves(
    tmp_path: Path, contexts: Contexts
) -> None:
    async def main() -> None:
        async with pair(tmp_path, contexts[0]) as p:
            rests, busy = await p.old.connect(contexts[1]), await p.old.connect(contexts[1])
            await rests.send("GET", "/e/chat/x")
            assert (await rests.reply()).body == b"old"
            await busy.send("GET", "/e/chat/slow")
            await until(lambda: len(p.old_worker.asked) == 2)
            p.leave()
            await until(lambda: len(p.new.gateway.clients) == 1)
            await rests.send("POST", "/e/chat/x", body=b"y" * 1_000_000)
            reply = await rests.reply()
            assert (reply.body, reply.header("Connection")) == (b"new", "close")
            assert await rests.ended() == b""
            asked = p.new_worker.asked[0]
            assert (len(asked.body), asked.header("Forwarded")) == (1_000_000, "for=127.0.0.1;proto=https")
            p.go.set()
            reply = await busy.reply()
            assert (reply.body, reply.header("Connection")) == (b"old", "close")
            await asyncio.wait_for(p.old.gateway.finished(), 10)
            await until(lambda: not p.new.gateway.clients)

    run(main)


def test_a_client_that_is_relayed_is_passed_on_once_more(tmp_path: Path, contexts: Contexts) -> None:
    async def main() -> None:
        async with pair(tmp_path, contexts[0]) as p, pair(tmp_path / "next") as later:
            client = await p.old.connect(contexts[1])
            await until(lambda: p.old.gateway.clients)
            p.leave()
            await until(lambda: p.new.gateway.clients)
            p.new.gateway.leave(Successor(later.path, p.new.gateway, p.new.gateway.upstreams.view))
            await asyncio.wait_for(p.new.gateway.finished(), 10)
            await client.send("GET", "/e/chat/x")
            reply = await client.reply()
            assert (reply.body, reply.header("Connection")) == (b"new", "close")
            assert later.new_worker.asked[0].header("Forwarded") == "for=127.0.0.1;proto=https"

    run(main)


def test_a_client_of_tls_that_goes_is_gone_at_the_successor_too(tmp_path: Path, contexts: Contexts) -> None:
    async def main() -> None:
        async with pair(tmp_path, contexts[0]) as p:
            clients = [await p.old.connect(contexts[1]) for _ in range(2)]
            await until(lambda: len(p.old.gateway.clients) == 2)
            p.leave()
            await until(lambda: len(p.new.gateway.clients) == 2)
            clients[0].reset()
            clients[1].close()
            await until(lambda: not p.new.gateway.clients and not p.old.gateway.clients)

    run(main)


def test_a_handshake_that_ends_after_the_gateway_began_to_leave_is_none_the_worse(
    tmp_path: Path, contexts: Contexts
) -> None:
    async def main() -> None:
        async with pair(tmp_path, contexts[0]) as p:
            connecting = asyncio.create_task(p.old.connect(contexts[1]))
            await asyncio.sleep(0)
            p.leave()
            client = await connecting
            await client.send("GET", "/e/chat/x")
            assert (await client.reply()).body == b"new"

    run(main)


@pytest.mark.parametrize("secure", [False, True])
def test_connections_are_closed_when_the_successor_is_gone(tmp_path: Path, contexts: Contexts, secure: bool) -> None:
    async def main() -> None:
        mine, theirs = contexts if secure else (None, None)
        async with pair(tmp_path, mine) as p:
            clients = [await p.old.connect(theirs) for _ in range(3)]
            await until(lambda: len(p.old.gateway.clients) == 3)
            successor = Successor(p.path, p.old.gateway, p.old.gateway.upstreams.view)
            successor.close()
            p.old.gateway.leave(successor)
            for client in clients:
                assert await client.ended() == b""
            await asyncio.wait_for(p.old.gateway.finished(), 10)

    run(main)


def test_nobody_takes_over_where_nobody_listens(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint()) as s:
            with pytest.raises(OSError):
                Successor(tmp_path / "nobody.sock", s.gateway, s.gateway.upstreams.view)

    run(main)


def test_who_sends_nonsense_to_a_successor_does_it_no_harm(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as p:
            for sent in (b"no socket comes with this\n", b"", b"x" * 100_000):
                with socket.socket(socket.AF_UNIX) as other:
                    other.connect(str(p.path))
                    with contextlib.suppress(BrokenPipeError):
                        other.sendall(sent)
            client = await p.old.connect()
            await until(lambda: p.old.gateway.clients)
            p.leave()
            await client.send("GET", "/e/chat/x")
            assert (await client.reply()).body == b"new"

    run(main)

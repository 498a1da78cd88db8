"""The same HTTP over TLS, where connections cannot be closed by halves."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from gateway.loopback import KEY, endpoint, run, site, until, worker
from gateway.test_tunnel import ASK, echo
from gateway.wire import Asked
from stoker import tls


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What the gateway speaks, and what its clients do."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return tls.listening(str(folder / "cert.pem"), str(folder / "key.pem")), client


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def test_requests_are_answered_and_workers_learn_that_it_was_tls(tmp_path: Path, contexts: Contexts) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry()), secure=contexts[0]) as s:
            client = await s.connect(contexts[1])
            for size in (3, 1_000_000):
                await client.send("POST", "/e/chat/x", body=b"x" * size)
                assert (await client.reply()).body == b"fine"
                assert w.asked[-1].body == b"x" * size
            assert w.asked[0].header("X-Forwarded-Proto") == "https"
            assert w.asked[0].header("Forwarded") == "for=127.0.0.1;proto=https"
            client.close()
            await until(lambda: not s.gateway.clients)

    run(main)


def test_an_answer_before_the_whole_body_arrives_and_the_connection_ends(tmp_path: Path, contexts: Contexts) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint(), secure=contexts[0]) as s:
            client = await s.connect(contexts[1])
            await client.send("POST", "/e/chat/x", "Content-Length: 100000", secret="")
            reply = await client.reply()
            assert (reply.status, reply.header("Connection")) == (401, "close")
            await client.ended()
            await until(lambda: not s.gateway.clients)

    run(main)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_answer_without_a_length_ends_as_it_should(tmp_path: Path, contexts: Contexts, version: str) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000)
        await writer.drain()
        return False

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry()), secure=contexts[0]) as s:
            client = await s.connect(contexts[1])
            await client.write(
                f"GET /e/chat/x HTTP/{version}\r\nHost: a\r\nX-API-Key: {KEY}\r\nConnection: close\r\n\r\n".encode()
            )
            reply = await client.reply()
            assert (reply.complete, len(reply.body)) == (True, 300_000)
            assert await client.ended() == b""

    run(main)


def test_a_client_that_leaves_frees_its_slot(tmp_path: Path, contexts: Contexts) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        return bool(await reader.read())

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry()), secure=contexts[0]) as s:
            client = await s.connect(contexts[1])
            await client.send("GET", "/e/chat/x")
            await until(lambda: w.asked)
            client.close()
            await until(lambda: s.gateway.admissions["id-chat"].in_flight == 0)

    run(main)


def test_a_websocket_over_tls(tmp_path: Path, contexts: Contexts) -> None:
    async def main() -> None:
        async with worker(echo) as w, site(tmp_path, endpoint(w.entry()), secure=contexts[0]) as s:
            client = await s.connect(contexts[1])
            await client.write(ASK)
            assert (await client.head()).status == 101
            await client.write(b"x" * 200_000)
            assert await client.reader.readexactly(200_000) == b"x" * 200_000
            client.close()
            await until(lambda: s.gateway.admissions["id-chat"].in_flight == 0)
            await until(lambda: w.open == 0)

    run(main)


def test_plain_http_is_not_answered(tmp_path: Path, contexts: Contexts) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint(), secure=contexts[0]) as s:
            client = await s.connect()
            await client.send("GET", "/healthz")
            assert b"HTTP" not in await client.ended()

    run(main)

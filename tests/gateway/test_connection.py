"""HTTP at the client's side: order, keep-alive, framing, and requests that make no sense."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.loopback import KEY, Worker, endpoint, fine, run, site, until, worker
from gateway.wire import Asked, answer, read_body
from stoker.gateway import connection

AUTH = f"X-API-Key: {KEY}"


async def echo(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the target and the body."""
    asked.body = await read_body(reader, asked.headers, to_end=False)
    if asked.method == "HEAD":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    elif asked.target == "/none":
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    elif asked.target == "/same":
        writer.write(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n")
    else:
        writer.write(answer(asked.target.encode() + b" " + asked.body))


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.body = await read_body(reader, asked.headers, to_end=False)
        # The earlier ones take longer, so that an answer out of order would show.
        await asyncio.sleep(0.03 if asked.target == "/0" else 0)
        writer.write(answer(asked.target.encode() + asked.body))

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry(slots=8))) as s:
            client = await s.connect()
            requests = [
                f"POST /e/chat/{n} HTTP/1.1\r\nHost: a\r\n{AUTH}\r\nContent-Length: {n}\r\n\r\n{'x' * n}"
                for n in range(5)
            ]
            requests.insert(2, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.write("".join(requests).encode())
            bodies = [(await client.reply()).body for _ in range(6)]
            assert bodies == [b"/0", b"/1x", b'{"status":"ok"}', b"/2xx", b"/3xxx", b"/4xxxx"]
            await client.write(requests[-1].encode())
            assert (await client.reply()).body == b"/4xxxx"
            client.close()
            assert w.connections == 1

    run(main)


def test_very_many_pipelined_requests_are_all_answered(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path) as s:
            client = await s.connect()
            client.writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 3000)
            for _ in range(3000):
                assert (await client.reply()).status == 200
            client.close()

    run(main)


def test_a_connection_is_kept_after_answers_without_a_body(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(echo) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            for _ in range(2):
                await client.send("HEAD", "/e/chat/head")
                head = await client.reply(head=True)
                assert (head.status, head.header("Content-Length")) == (200, "5")
                await client.send("GET", "/e/chat/none")
                assert (await client.reply()).status == 204
                await client.send("GET", "/e/chat/same")
                same = await client.reply()
                assert (same.status, same.header("ETag")) == (304, "x")
                await client.send("GET", "/e/chat/full")
                assert (await client.reply()).body == b"/full "
            client.close()
            assert w.connections == 1

    run(main)


def test_chunks_go_up_and_down(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.body = await read_body(reader, asked.headers, to_end=False, trailers=asked.trailers)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for byte in asked.body:
            writer.write(b"1;x=y\r\n%c\r\n" % byte)
            await writer.drain()
        writer.write(b"0\r\nX-Trailer: t\r\nSet-Cookie: a=b\r\n\r\n")

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            head = f"POST /e/chat/x HTTP/1.1\r\nHost: a\r\n{AUTH}\r\nTransfer-Encoding: chunked\r\n\r\n"
            await client.write(head.encode() + b"3\r\nabc\r\n")
            await until(lambda: w.asked)
            await client.write(b"2;ext\r\nde\r\n0\r\nTrail: er\r\nX-Stoker-Key: x\r\n\r\n")
            reply = await client.reply()
            assert (w.asked[0].trailers, reply.trailers) == ([("Trail", "er")], [("X-Trailer", "t")])
            assert (reply.body, reply.header("Transfer-Encoding")) == (b"abcde", "chunked")
            assert w.asked[0].header("Transfer-Encoding") == "chunked"
            await client.write(head.encode() + b"3\r\nabc\r\n0\r\n\r\n")
            assert (await client.reply()).body == b"abc"
            assert w.asked[1].header("Content-Length") == "3"
            await client.write(head.encode() + b"3\r\nabc\r\n0\r\nTrail: er\r\n\r\n")
            assert (await client.reply()).body == b"abc"
            assert w.asked[2].trailers == [("Trail", "er")]
            await client.write(head.encode().replace(b"1.1", b"1.0").replace(b"Transfer-Encoding: chunked\r\n", b""))
            assert (await client.ended()).endswith(b"\r\n\r\n")
            client.close()

    run(main)


def test_http_1_0_gets_a_plain_answer_and_the_end_of_the_connection(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            await client.write(f"GET /e/chat/x HTTP/1.0\r\n{AUTH}\r\n\r\n".encode())
            got = await client.ended()
            assert got.startswith(b"HTTP/1.1 200 OK\r\n")
            assert got.endswith(b"\r\n\r\nabc")
            assert b"chunked" not in got

    run(main)


def test_http_1_0_keeps_the_connection_when_it_asks_and_the_length_is_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(echo) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            for _ in range(2):
                await client.write(f"GET /e/chat/x HTTP/1.0\r\nConnection: keep-alive\r\n{AUTH}\r\n\r\n".encode())
                reply = await client.reply()
                assert (reply.body, reply.header("Connection")) == (b"/x ", "keep-alive")
            client.close()

    run(main)


def test_connection_close_is_honoured(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(echo) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            await client.send("GET", "/e/chat/x", "Connection: close")
            reply = await client.reply()
            assert (reply.body, reply.header("Connection")) == (b"/x ", "close")
            assert await client.ended() == b""

    run(main)


def test_expect_100_continue_is_answered_when_the_body_is_wanted(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(echo) as w, site(tmp_path, endpoint()) as s:
            client = await s.connect()
            await client.write(
                f"POST /e/chat/x HTTP/1.1\r\nHost: a\r\n{AUTH}\r\nExpect: 100-continue\r\n".encode()
                + b"Content-Length: 3\r\n\r\n"
            )
            await until(lambda: s.gateway.admissions["id-chat"].waiting)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.readexactly(1), 0.05)
            await s.control.tell(endpoint(w.entry()))
            assert (await client.head()).status == 100
            await client.write(b"abc")
            assert (await client.reply()).body == b"/x abc"
            assert w.asked[0].header("Expect") is None
            client.close()

    run(main)


def test_expect_100_continue_is_not_answered_when_the_request_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint()) as s:
            client = await s.connect()
            await client.send("POST", "/e/chat/x", "Expect: 100-continue", "Content-Length: 3", secret="")
            assert (await client.reply()).status == 401
            assert await client.ended() == b""
            client.close()

    run(main)


def test_1xx_of_the_worker_is_no_answer_and_early_hints_are_passed_on(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(answer())

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            for _ in range(2):
                await client.send("GET", "/e/chat/x")
                hints = await client.head()
                assert (hints.status, hints.header("Link")) == (103, "</a>")
                assert (await client.reply()).body == b"fine"
            client.close()
            assert w.connections == 1

    run(main)


@pytest.mark.parametrize(
    "framing", ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
)
def test_an_offer_to_upgrade_is_ignored_and_the_body_is_read(tmp_path: Path, framing: str) -> None:
    async def main() -> None:
        async with worker(echo) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            head = f"POST /e/chat/up HTTP/1.1\r\nHost: a\r\n{AUTH}\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            head += f"Upgrade: h2c\r\nHTTP2-Settings: AAA\r\n{framing}"
            plain = f"GET /e/chat/plain HTTP/1.1\r\nHost: a\r\n{AUTH}\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
            await client.write((head + plain + head + plain).encode())
            for _ in range(2):
                assert (await client.reply()).body == b"/up abc"
                assert (await client.reply()).body == b"/plain "
            for byte in head.encode():
                client.writer.write(bytes((byte,)))
                await asyncio.sleep(0)
            assert (await client.reply()).body == b"/up abc"
            client.close()
            assert w.asked[0].header("Upgrade") is None
            assert w.asked[0].header("HTTP2-Settings") is None

    run(main)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param("GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, id="two hosts"),
        pytest.param(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            id="length and coding",
        ),
        pytest.param(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, id="two lengths"
        ),
        pytest.param("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, id="no length"),
        pytest.param(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, id="a coding"
        ),
        pytest.param("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, id="no end"),
        pytest.param("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="a coding in HTTP/1.0"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400, id="a space before the colon"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400, id="a folded line"),
        pytest.param("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, id="a version"),
        pytest.param("nonsense\r\n\r\n", 400, id="nonsense"),
        pytest.param("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501, id="connect"),
        pytest.param("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a foreign scheme"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\r\nA: " + "x" * 70_000 + "\r\n\r\n", 431, id="a long head"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\r\n" + "A: b\r\n" * 300 + "\r\n", 431, id="many headers"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\r\nX-Stoker-Hold: soon\r\n\r\n", 400, id="a hold that is no number"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417, id="an expectation"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_and_the_connection_ends(
    tmp_path: Path, request_: str, status: int
) -> None:
    async def main() -> None:
        async with site(tmp_path) as s:
            client = await s.connect()
            await client.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" + request_.encode())
            assert (await client.reply()).status == 200
            reply = await client.reply()
            assert (reply.status, reply.header("Connection")) == (status, "close")
            await client.ended()
            client.close()

    run(main)


def test_a_body_whose_chunks_make_no_sense_ends_its_exchange(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(fine) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            await client.write(
                f"POST /e/chat/x HTTP/1.1\r\nHost: a\r\n{AUTH}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
                + b"3\r\nabc\r\n"
            )
            await until(lambda: w.asked)
            await client.write(b"zzz\r\n")
            assert (await client.reply()).status == 400
            await client.ended()
            await until(lambda: s.gateway.admissions["id-chat"].in_flight == 0)
            client.close()

    run(main)


def test_endless_trailers_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint()) as s:
            client = await s.connect()
            head = f"POST /e/chat/x HTTP/1.1\r\nHost: a\r\n{AUTH}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
            client.writer.write(head.encode() + b"A: b\r\n" * 100_000)
            assert (await client.reply()).status == 431
            client.reset()

    run(main)


def test_an_absolute_target_names_the_host(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(echo) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            await client.write(f"GET http://b:1/e/chat/x?y HTTP/1.1\r\nHost: a\r\n{AUTH}\r\n\r\n".encode())
            assert (await client.reply()).body == b"/x?y "
            assert w.asked[0].header("Host") == "b:1"
            client.close()

    run(main)


def test_a_request_in_single_bytes_is_a_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(echo) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            for byte in f"POST /e/chat/x HTTP/1.1\r\nHost: a\r\n{AUTH}\r\nContent-Length: 3\r\n\r\nabc".encode():
                await client.write(bytes((byte,)))
                await asyncio.sleep(0)
            assert (await client.reply()).body == b"/x abc"
            client.close()

    run(main)


def test_bytes_that_a_worker_sends_too_much_are_no_answer_to_the_next_request(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(asked.target.encode()) + answer(b"smuggled"))

    w: Worker

    async def main() -> None:
        nonlocal w
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            for name in ("/1", "/2", "/3"):
                assert (await s.ask("GET", f"/e/chat{name}")).body == name.encode()
            assert w.connections == 3

    run(main)


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-x\r\n", b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"])
def test_a_worker_that_does_not_speak_http_has_failed(tmp_path: Path, nonsense: bytes) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(nonsense)

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            reply = await s.ask("GET", "/e/chat/x")
            assert (reply.status, reply.header("X-Stoker-Reason")) == (502, "worker_failed")

    run(main)


def test_the_end_of_the_gateway_waits_for_no_client_that_has_its_last_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER_S", 1_000.0)
    monkeypatch.setattr(connection, "CLOSE_S_MAX", 1_000.0)

    async def main() -> None:
        async with site(tmp_path) as s:
            client = await s.connect()
            await client.send("GET", "/healthz", "Connection: close")
            assert (await client.reply()).status == 200
            s.gateway.tick()
            assert s.gateway.clients, "it is given time to read"
            s.gateway.drain()
            await until(lambda: not s.gateway.clients)

    run(main)

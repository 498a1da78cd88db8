"""One request and its worker: waiting, retrying, streaming, being cut, deadlines, and slots that always come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest

import ports
from gateway.loopback import Asked, Site, Worker, answer, endpoint, fine, read_body, run, site, until, worker
from stoker.link.messages import EndpointEntry, WorkerEntry


async def idle(s: Site, slug: str = "chat") -> None:
    """Wait until no request holds a slot or a place."""
    admission = s.gateway.admissions[f"id-{slug}"]
    await until(lambda: admission.in_flight == 0 and admission.waiting == 0)
    assert not s.gateway.live


async def never(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """A worker that never answers."""
    await reader.read()
    return False


def test_a_request_at_zero_waits_wakes_and_goes_through_when_a_worker_appears(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint()) as s:
            asking = asyncio.create_task(s.ask("POST", "/e/chat/x", body=b"hello"))
            await until(lambda: s.wakes)
            assert (s.wakes[0].endpoint, s.wakes[0].waiting) == ("id-chat", 1)
            await s.control.tell(endpoint(w.entry()))
            assert (await asking).status == 200
            assert w.asked[0].body == b"hello"
            await idle(s)

    run(main)


def test_while_no_worker_is_there_a_refusal_says_how_long_one_takes_to_come(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(expected_start_s=42.0)) as s:
            none = await s.ask("POST", "/e/chat/x", "X-Stoker-Hold: 0")
            assert (none.header("X-Stoker-Reason"), none.header("Retry-After")) == ("no_capacity", "42")
            expired = await s.ask("POST", "/e/chat/x", "X-Stoker-Hold: 0.05")
            assert (expired.header("X-Stoker-Reason"), expired.header("Retry-After")) == ("wait_expired", "42")
            await s.control.tell(endpoint(w.entry(slots=0), expected_start_s=42.0))
            busy = await s.ask("POST", "/e/chat/x", "X-Stoker-Hold: 0")
            assert (busy.header("X-Stoker-Reason"), busy.header("Retry-After")) == ("busy", "1")

    run(main)


@pytest.mark.parametrize("front", ["/e/chat/x", "/v1/completions"])
def test_refusals_say_why_and_when_to_come_back(tmp_path: Path, front: str) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint(waiting_max=1, wait_s_max=5.0)) as s:
            body = json.dumps({"model": "chat"}).encode()
            waiting = asyncio.create_task(s.ask("POST", front, body=body))
            await until(lambda: s.gateway.admissions["id-chat"].waiting)
            full = await s.ask("POST", front, body=body)
            assert (full.status, full.header("X-Stoker-Reason")) == (429, "waiting_room_full")
            busy = await s.ask("POST", front, "X-Stoker-Hold: 0", body=body)
            assert (busy.status, busy.header("X-Stoker-Reason")) == (503, "no_capacity")
            await s.control.tell(
                endpoint(refusal="start_failed", refusal_text="no such model", retry_after_s=7.0, waiting_max=1)
            )
            refused = await waiting
            assert (refused.status, refused.header("X-Stoker-Reason")) == (503, "start_failed")
            assert refused.header("Retry-After") == "7"
            await s.control.tell(endpoint())
            expired = await s.ask("POST", front, "X-Stoker-Hold: 0.05", body=body)
            assert (expired.status, expired.header("X-Stoker-Reason")) == (503, "wait_expired")
            for reply in (full, busy, refused, expired):
                assert int(reply.header("Retry-After") or 0) >= 1
                shown = json.loads(reply.body)
                if front.startswith("/v1"):
                    assert shown["error"]["code"] == reply.header("X-Stoker-Reason")
                    assert set(shown["error"]) == {"message", "type", "param", "code"}
                else:
                    assert reply.header("Content-Type") == "application/problem+json"
                    assert shown["reason"] == reply.header("X-Stoker-Reason")

    run(main)


def test_a_client_that_leaves_while_waiting_frees_its_place_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint()) as s:
            client = await s.connect()
            await client.send("POST", "/e/chat/x", body=b"hello")
            await until(lambda: s.gateway.admissions["id-chat"].waiting == 1)
            client.close()
            await idle(s)

    run(main)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_is_noticed_although_nothing_is_read_from_it(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint()) as s:
            client = await s.connect()
            await client.write(
                b"POST /e/chat/x HTTP/1.1\r\nHost: a\r\nX-API-Key: sk-test-0123456789abcdef0123456789abcdef\r\n"
                b"Content-Length: 150000\r\n\r\n" + b"x" * 150_000
            )
            await until(lambda: s.gateway.admissions["id-chat"].waiting == 1)
            await until(lambda: next(iter(s.gateway.clients))._pauses)
            if how == "close":
                client.close()
            else:
                client.reset()
            await idle(s)

    run(main)


def test_a_client_that_ends_its_sending_is_taken_as_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint()) as s:
            client = await s.connect()
            await client.send("GET", "/e/chat/x")
            await until(lambda: s.gateway.admissions["id-chat"].waiting)
            client.writer.write_eof()
            await until(lambda: not s.gateway.admissions["id-chat"].waiting)
            assert await client.ended() == b""

    run(main)


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


def test_an_answer_until_the_end_of_the_connection_is_whole_when_it_ends_well(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it")
        return False

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            reply = await s.ask("GET", "/e/chat/x")
            assert (reply.body, reply.complete) == (b"all of it", True)
            assert reply.header("Transfer-Encoding") == "chunked"

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


def test_a_change_of_the_table_breaks_no_stream(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await go.wait()
        writer.write(b"3\r\ndef\r\n0\r\n\r\n")

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            asking = asyncio.create_task(s.ask("GET", "/e/chat/x"))
            await until(lambda: w.asked)
            await s.control.tell(endpoint())
            await until(lambda: s.reports("id-chat") and s.reports("id-chat")[-1].workers == {"w1": 1})
            await s.control.tell(gone=("id-chat",))
            go.set()
            reply = await asking
            assert (reply.body, reply.complete) == (b"abcdef", True)
            await until(lambda: s.reports("id-chat")[-1].workers == {})
            assert s.reports("id-chat")[-1].completions == 1

    run(main)


@pytest.mark.parametrize("entry", [endpoint(waiting_max=0)])
def test_a_room_without_places_refuses_at_once(tmp_path: Path, entry: EndpointEntry) -> None:
    async def main() -> None:
        async with site(tmp_path, entry) as s:
            assert (await s.ask("GET", "/e/chat/x")).status == 429

    run(main)


def test_reports_come_for_what_was_touched_and_for_everything_after_a_reconnection(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(fine) as w, site(tmp_path, endpoint(w.entry()), endpoint(slug="quiet", number=2)) as s:
            await until(lambda: s.reports("id-quiet"))
            await s.ask("GET", "/e/chat/x")
            await until(lambda: s.reports("id-chat")[-1].completions == 1)
            quiet = len(s.reports("id-quiet"))
            await s.ask("GET", "/e/chat/x")
            await until(lambda: s.reports("id-chat")[-1].completions == 2)
            assert len(s.reports("id-quiet")) == quiet
            await s.control.close()
            s.control.heard.clear()
            await s.control.open(s.settings.paths.link_socket)
            await until(lambda: s.reports("id-quiet"))
            assert s.reports("id-chat")[-1].completions == 2

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

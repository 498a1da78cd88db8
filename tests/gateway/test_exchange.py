"""One request and its worker: waiting, leaving, refusals, changes of the table, and slots that always come back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.loopback import endpoint, fine, run, site, until, worker
from gateway.scripts import idle
from gateway.wire import Asked
from stoker.link.messages import EndpointEntry


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

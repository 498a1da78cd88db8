"""Heads that come again are recognised by their bytes: what is made of them is what parsing them would have made."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.loopback import KEY, endpoint, key, run, site, until, worker
from gateway.wire import Asked, answer, read_body
from stoker.gateway.head import Request
from stoker.gateway.reading import RequestReader
from stoker.gateway.repeats import KnownAnswer, Pattern
from stoker.gateway.response import ResponseHead
from stoker.link.messages import Delta

HEAD = b"POST /e/chat/x HTTP/1.1\r\nHost: h\r\nX-Stoker-Session: s\r\nContent-Length: %d\r\nAccept: */*\r\n\r\n"
PLAIN = b"GET /e/chat/x HTTP/1.1\r\nHost: h\r\n\r\n"
bodies = st.binary(max_size=300)


def post(body: bytes) -> bytes:
    return HEAD % len(body) + body


def read(*messages: bytes) -> tuple[RequestReader, list[Request]]:
    reader = RequestReader()
    for message in messages:
        reader.feed(memoryview(message))
    return reader, [*reader.requests]


def seen(request: Request) -> dict[str, Any]:
    """All that is known of a request, but whether it was known before."""
    values = {name: getattr(request, name) for name in Request.__slots__ if name not in ("known", "error", "pending")}
    error = request.error
    return values | {
        "body": b"".join(request.pending),
        "error": None if error is None else (error.status, error.detail),
    }


@given(first=bodies, body=bodies)
def test_a_repeated_head_is_read_as_the_first_one_was(first: bytes, body: bytes) -> None:
    _, requests = read(post(first), post(first), post(body))
    _, (expected,) = read(post(body))
    assert requests[-1].known is not None
    assert seen(requests[-1]) == seen(expected)


def test_requests_without_a_body_are_recognised_too() -> None:
    _, requests = read(PLAIN, PLAIN, PLAIN)
    assert [request.known is not None for request in requests] == [False, False, True]
    assert seen(requests[2]) == seen(requests[0])


@given(
    body=bodies,
    place=st.integers(min_value=0, max_value=len(HEAD) + 20),
    gone=st.integers(min_value=0, max_value=3),
    added=st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"0", b"9", b"+", b"a", b":", b"\x00", b"\xb2", PLAIN]),
    plain=st.booleans(),
)
def test_bytes_that_differ_are_read_as_if_nothing_was_remembered(
    body: bytes, place: int, gone: int, added: bytes, plain: bool
) -> None:
    usual = PLAIN if plain else post(body)
    message = usual[:place] + added + usual[place + gone :]
    remembering, requests = read(usual, usual, message)
    fresh, expected = read(message)
    assert [seen(request) for request in requests[2:]] == [seen(request) for request in expected]
    assert (remembering.ended, remembering.partial) == (fresh.ended, fresh.partial)


@given(body=st.binary(min_size=1, max_size=300), cuts=st.lists(st.integers(min_value=1, max_value=400), max_size=4))
def test_a_repeated_head_may_come_in_pieces(body: bytes, cuts: list[int]) -> None:
    message = post(body)
    places = sorted({0, *(cut for cut in cuts if cut < len(message)), len(message)})
    pieces = [message[start:end] for start, end in itertools.pairwise(places)]
    _, requests = read(post(b"a"), post(b"b"), *pieces, post(b"c"))
    assert [b"".join(request.pending) for request in requests] == [b"a", b"b", body, b"c"]


def test_two_requests_in_one_read_are_two_requests() -> None:
    _, requests = read(post(b"a"), post(b"a"), post(b"b") + post(b"c"))
    assert [b"".join(request.pending) for request in requests] == [b"a", b"a", b"b", b"c"]


def test_a_length_that_counts_the_next_request_as_body_does_not_hide_it() -> None:
    hidden = HEAD % 1 + b"b" + PLAIN
    _, requests = read(post(b"a"), post(b"a"), hidden)
    assert [request.method for request in requests] == [b"POST", b"POST", b"POST", b"GET"]


def test_a_connection_whose_heads_always_differ_stops_looking() -> None:
    reader, _ = read(*(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(20)))
    assert reader._known is None


def test_what_asks_for_more_than_an_answer_is_not_remembered() -> None:
    for line in (b"Expect: 100-continue", b"Connection: close", b"Upgrade: websocket\r\nConnection: Upgrade"):
        message = b"GET / HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % line
        assert all(request.known is None for request in read(message)[1])
    message = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    assert all(request.known is None for request in read(message, message, message)[1])


def test_an_answer_after_an_interim_one_is_not_remembered() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 41\r\n\r\n"
    message = interim + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
    assert KnownAnswer.of(message, ResponseHead(200, (), length=4), sandboxed=False) is None


@given(body=bodies, digits=st.text("0123456789+- \t²", max_size=12))
def test_only_a_length_in_digits_that_fits_is_taken(body: bytes, digits: str) -> None:
    pattern = Pattern.of(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", has_length=True)
    assert pattern is not None
    message = b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n%b" % (digits.encode(), body)
    fits = digits.isascii() and digits.isdigit() and len(digits) <= 9 and int(digits) == len(body)
    assert pattern.body_at(message) == (len(message) - len(body) if fits else 0)


def test_a_worker_whose_heads_always_differ_is_answered_for_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        numbers = itertools.count()

        async def numbered(asked: Asked, reader: Any, writer: Any) -> None:
            await read_body(reader, asked.headers, to_end=False)
            number = next(numbers)
            writer.write(answer(b"%d" % number, f"X-Request-Id: {number}" if number < 12 else "X-Kind: same"))

        async with worker(numbered) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            for number in range(16):
                await client.send("POST", "/e/chat/x", body=b"{}")
                reply = await client.reply()
                assert reply.body == b"%d" % number
                assert reply.header("x-request-id") == (str(number) if number < 12 else None)

    run(main)


async def echo(asked: Asked, reader: Any, writer: Any) -> None:
    asked.body = await read_body(reader, asked.headers, to_end=False)
    writer.write(answer(asked.body, "X-Kind: echo"))


def test_answers_of_one_worker_are_told_apart_by_length_and_page(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(echo) as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()
            for size in (3, 3, 30, 0, 500, 7):
                await client.send("POST", "/e/chat/x", body=b"x" * size)
                reply = await client.reply()
                assert (reply.status, reply.body, reply.header("x-kind")) == (200, b"x" * size, "echo")
                assert reply.header("content-security-policy") is not None
            assert [len(asked.body) for asked in w.asked] == [3, 3, 30, 0, 500, 7]
            assert w.connections == 1

    run(main)


def test_a_key_that_is_withdrawn_counts_no_more_for_heads_that_are_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry())) as s:
            client = await s.connect()

            async def ask() -> int:
                await client.send("POST", "/e/chat/x", body=b"{}")
                return (await client.reply()).status

            assert [await ask() for _ in range(4)] == [200] * 4
            s.control.seq += 1
            s.control.say(Delta(s.control.seq, keys_gone=(key().digest,)))
            await until(lambda: s.control.acked >= s.control.seq)
            assert await ask() == 401
            s.control.seq += 1
            s.control.say(Delta(s.control.seq, keys=(key(),)))
            await until(lambda: s.control.acked >= s.control.seq)
            assert [await ask() for _ in range(3)] == [200] * 3
            await s.control.tell(gone=("id-chat",))
            assert await ask() == 404

    run(main)


def test_a_key_expires_for_heads_that_are_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry()), keys=(key(expires_at=5_000.0),)) as s:
            now = 4_000.0
            s.gateway.wall = lambda: now
            client = await s.connect()
            for at, status in ((4_000.0, 200), (4_000.0, 200), (4_000.0, 200), (5_000.0, 401), (6_000.0, 401)):
                now = at
                await client.send("POST", "/e/chat/x", body=b"{}")
                assert (await client.reply()).status == status

    run(main)


def test_requests_with_known_heads_go_where_their_bodies_say(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as one, worker() as two:
            first, second = endpoint(one.entry()), endpoint(two.entry(), slug="code", number=2)
            async with site(tmp_path, first, second) as s:
                client = await s.connect()
                for model in ("chat", "chat", "chat", "code", "chat", "code"):
                    await client.send("POST", "/v1/completions", body=b'{"model":"%b"}' % model.encode())
                    assert (await client.reply()).status == 200
                assert (len(one.asked), len(two.asked)) == (4, 2)
                assert all(asked.header("authorization") is None for asked in (*one.asked, *two.asked))

    run(main)


def test_the_key_of_a_known_head_is_still_reported_as_used(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry()), tick_s=60.0) as s:
            client = await s.connect()
            for _ in range(4):
                s.gateway.table.keys_used.clear()
                await client.send("POST", "/e/chat/x", f"X-Extra: {KEY}", body=b"{}")
                await client.reply()
                assert s.gateway.table.keys_used == {"key-1"}

    run(main)

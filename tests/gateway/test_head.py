"""Heads, without sockets."""

from __future__ import annotations

import pytest

from stoker.gateway.forwarded import Peer
from stoker.gateway.head import Headers, Request, read_request, trailer_line, upstream_head
from stoker.gateway.response import BadAnswer, interim_head, read_response


def request(*headers: tuple[bytes, bytes], target: bytes = b"/x") -> Request:
    """A GET with these headers."""
    return read_request(b"GET", target, [(b"Host", b"a"), *headers], version="1.1", keep_alive=True)


def sent(it: Request, **changes: bool) -> bytes:
    """The head as a worker gets it."""
    options = {"keep_authorization": True, "keep_api_key": True, "keep_own_cookies": False, **changes}
    return upstream_head(it, it.target, forwarded=Peer("9.9.9.9", secure=False, networks=()), **options)


OWN = Peer("9.9.9.9", secure=False, networks=()).lines + b"X-Forwarded-Host: a\r\n"


def test_what_belongs_to_one_hop_is_not_passed_on() -> None:
    it = request(
        (b"Connection", b"close, X-One"),
        (b"connection", b"x-two"),
        (b"X-One", b"1"),
        (b"x-two", b"2"),
        (b"X-Three", b"3"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Authorization", b"Basic x"),
        (b"TE", b"gzip"),
        (b"Upgrade", b"h2c"),
    )
    assert sent(it) == b"GET /x HTTP/1.1\r\nHost: a\r\nX-Three: 3\r\n" + OWN


def test_what_stoker_says_to_itself_is_not_taken_from_clients_however_it_is_spelt() -> None:
    it = request((b"X-Stoker-Worker", b"1"), (b"x_stoker_worker", b"2"), (b"X_Forwarded_For", b"3"), (b"X_Own", b"4"))
    assert sent(it) == b"GET /x HTTP/1.1\r\nHost: a\r\nX_Own: 4\r\n" + OWN


def test_readiness_for_trailers_is_passed_on_as_one_hops_business() -> None:
    assert b"Connection: TE\r\nTE: trailers\r\n" in sent(request((b"TE", b"gzip, Trailers"), (b"Connection", b"te")))


@pytest.mark.parametrize(
    "name", [b"Content-Length", b"host", b"X-Stoker-Key", b"x_forwarded_for", b"Authorization", b"TE"]
)
def test_what_only_a_head_may_say_is_no_trailer(name: bytes) -> None:
    assert trailer_line(name, b"1") is None
    assert trailer_line(b"Digest", b"1") == b"Digest: 1\r\n"


def test_the_names_in_connection_cannot_remove_what_the_gateway_sets() -> None:
    it = request((b"Connection", b"Host, X-Forwarded-For, Authorization"), (b"Authorization", b"Bearer x"))
    head = sent(it)
    assert b"Host: a\r\n" in head
    assert b"X-Forwarded-For: 9.9.9.9\r\n" in head
    assert b"Authorization: Bearer x\r\n" in head


def test_what_a_client_says_of_where_it_came_from_is_replaced() -> None:
    headers = [
        (b"X-Forwarded-For", b"1.1.1.1"),
        (b"X-Forwarded-Proto", b"gopher"),
        (b"x-forwarded-host", b"b"),
        (b"X-Forwarded-Prefix", b"/p"),
        (b"Forwarded", b"for=1.1.1.1"),
        (b"X-Real-IP", b"1.1.1.1"),
    ]
    assert sent(request(*headers)) == b"GET /x HTTP/1.1\r\nHost: a\r\n" + OWN


@pytest.mark.parametrize(
    ("cookies", "own", "kept"),
    [
        (b"stoker_a=1; b=2", False, b"Cookie: b=2\r\n"),
        (b"b=stoker_x", False, b"Cookie: b=stoker_x\r\n"),
        (b"stoker_a=1", False, None),
        (b"stoker_a=1; b=2", True, b"Cookie: stoker_a=1; b=2\r\n"),
    ],
)
def test_cookies_of_stoker_are_for_control_only(cookies: bytes, own: bool, kept: bytes | None) -> None:
    head = sent(request((b"Cookie", cookies)), keep_own_cookies=own)
    assert (kept in head) if kept else (b"Cookie" not in head)


def test_credentials_are_kept_only_where_they_may_be() -> None:
    it = request((b"Authorization", b"Bearer x"), (b"X-API-Key", b"y"))
    assert b"Bearer x" not in sent(it, keep_authorization=False)
    assert b"X-API-Key" not in sent(it, keep_api_key=False)


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [(b"http://B/x", b"B", b"/x"), (b"HTTPS://b:1", b"b:1", b"/"), (b"http://b?q=/", b"b", b"/?q=/")],
)
def test_a_url_as_target_is_taken_apart(target: bytes, host: bytes, path: bytes) -> None:
    it = request(target=target)
    assert (it.host, it.target) == (host, path)


@pytest.mark.parametrize(
    ("status", "headers", "head_request", "expected"),
    [
        (200, [(b"Content-Length", b"5")], False, (5, False, False)),
        (200, [(b"Transfer-Encoding", b"chunked")], False, (None, False, False)),
        (200, [], False, (None, False, True)),
        (200, [(b"Keep-Alive", b"x=1, Timeout=7, max=3")], False, (None, False, True)),
        (200, [(b"Content-Length", b"5")], True, (5, True, False)),
        (204, [(b"Content-Length", b"5")], False, (None, True, False)),
        (304, [(b"Content-Length", b"5")], False, (5, True, False)),
        (304, [], False, (None, True, False)),
    ],
)
def test_the_framing_of_an_answer(
    status: int, headers: Headers, head_request: bool, expected: tuple[int | None, bool, bool]
) -> None:
    head = read_response(status, headers, head_request=head_request, sandboxed=False)
    assert (head.length, head.bodyless, head.until_close) == expected


def test_a_sandboxed_answer_cannot_touch_the_host_it_shares() -> None:
    headers = [
        (b"set-cookie", b"a=b"),
        (b"Content-Security-Policy", b"default-src *"),
        (b"Clear-Site-Data", b'"*"'),
        (b"ETag", b"x"),
        (b"Connection", b"x-hop"),
        (b"X-Hop", b"1"),
        (b"Content-Length", b"0"),
    ]
    head = read_response(200, headers, head_request=False, sandboxed=True)
    assert head.to_bytes(chunked=False, connection=None) == (
        b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Security-Policy: sandbox allow-scripts allow-forms\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    free = read_response(200, headers, head_request=False, sandboxed=False)
    assert b"set-cookie: a=b\r\n" in free.lines


def test_a_transfer_coding_that_nobody_can_undo_is_no_answer() -> None:
    with pytest.raises(BadAnswer):
        read_response(200, [(b"Transfer-Encoding", b"gzip, chunked")], head_request=False, sandboxed=False)


def test_statuses_without_a_phrase_are_passed_on() -> None:
    head = read_response(599, [], head_request=True, sandboxed=False)
    assert head.to_bytes(chunked=False, connection=b"close") == b"HTTP/1.1 599 Unknown\r\nConnection: close\r\n\r\n"
    assert interim_head(103, [(b"Link", b"</a>")]) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

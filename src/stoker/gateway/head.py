"""Heads of HTTP messages, read once into what routing needs and rewritten once as bytes. Pure: no sockets, no table.

Values arrive from llhttp, which has refused line breaks, NUL and folded lines, so that lines can be copied as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

Headers = list[tuple[bytes, bytes]]

HEAD_BYTES_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 256

# What a header of a request is to the gateway; those that are not listed are copied.
_DROP: Final = 0
_HOST: Final = 1
_LENGTH: Final = 2
_CODING: Final = 3
_CONNECTION: Final = 4
_EXPECT: Final = 5
_AUTHORIZATION: Final = 6
_API_KEY: Final = 7
_COOKIE: Final = 8
_FORWARDED_FOR: Final = 9
_ENDPOINT: Final = 10
_HOLD: Final = 11
_PROJECT: Final = 12

_REQUEST_HEADERS: Final[dict[bytes, int]] = {
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"expect": _EXPECT,
    b"authorization": _AUTHORIZATION,
    b"x-api-key": _API_KEY,
    b"cookie": _COOKIE,
    b"x-forwarded-for": _FORWARDED_FOR,
    b"x-forwarded-proto": _DROP,
    b"x-forwarded-host": _DROP,
    b"x-stoker-endpoint": _ENDPOINT,
    b"x-stoker-hold": _HOLD,
    b"x-stoker-project": _PROJECT,
    b"keep-alive": _DROP,
    b"proxy-connection": _DROP,
    b"proxy-authorization": _DROP,
    b"te": _DROP,
    b"trailer": _DROP,
    b"upgrade": _DROP,
    b"http2-settings": _DROP,
}
_RESPONSE_DROPPED: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"te",
        b"trailer",
        b"upgrade",
        b"transfer-encoding",
        b"content-length",
    }
)
# What a page below the main host must not do to the origin that the dashboard shares with it.
_SANDBOX_DROPPED: Final = _RESPONSE_DROPPED | {b"set-cookie", b"content-security-policy", b"clear-site-data"}
SANDBOX_LINE: Final = b"Content-Security-Policy: sandbox allow-scripts allow-forms\r\n"
_STATUS_LINES: Final[dict[int, bytes]] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class BadHead(Exception):
    """The request cannot be served as it is; it is answered with `status` and the connection is closed."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Request:
    """One request: its head as read, and the part of its body that arrived and was not taken yet.

    `target` is what follows the method, in origin form, byte for byte. `length` is the declared length of the body;
    `None` with `chunked` is unknown, without it there is none. `complete`: the last byte of it has arrived.
    """

    __slots__ = (
        "api_key",
        "authorization",
        "chunked",
        "complete",
        "cookies",
        "endpoint",
        "error",
        "expects_continue",
        "forwarded_for",
        "hold_s",
        "host",
        "keep_alive",
        "length",
        "lines",
        "method",
        "pending",
        "pending_bytes",
        "persistent",
        "project",
        "target",
    )

    def __init__(self, method: bytes, target: bytes, *, persistent: bool, keep_alive: bool) -> None:
        self.method = method
        self.target = target
        self.persistent = persistent
        self.keep_alive = keep_alive
        self.host = b""
        self.length: int | None = None
        self.chunked = False
        self.expects_continue = False
        self.authorization: bytes | None = None
        self.api_key: bytes | None = None
        self.cookies: bytes | None = None
        self.forwarded_for: bytes | None = None
        self.endpoint: bytes | None = None
        self.hold_s: float | None = None
        self.project: bytes | None = None
        self.lines: list[bytes] = []
        self.pending: list[bytes] = []
        self.pending_bytes = 0
        self.complete = False
        self.error: BadHead | None = None

    @property
    def has_body(self) -> bool:
        """Does its framing announce a body, even one of no bytes?"""
        return self.chunked or self.length is not None

    def take(self) -> list[bytes]:
        """The part of the body that has arrived since the last call."""
        parts = self.pending
        if parts:
            self.pending = []
            self.pending_bytes = 0
        return parts


def read_request(method: bytes, target: bytes, headers: Headers, *, version: str, keep_alive: bool) -> Request:
    """The request that a parsed head means. Raises `BadHead` for one that must not be passed on."""
    persistent = version == "1.1"
    if not persistent and version != "1.0":
        raise BadHead(505, f"HTTP/{version} is not spoken here")
    if len(headers) > HEADERS_MAX:
        raise BadHead(431, f"at most {HEADERS_MAX} header fields")
    request = Request(method, target, persistent=persistent, keep_alive=keep_alive)
    lines = request.lines
    named: list[bytes] | None = None
    hosts = 0
    for name, value in headers:
        lower = name.lower()
        kind = _REQUEST_HEADERS.get(lower)
        if kind is None:
            if lower[:9] != b"x-stoker-":
                lines.append(b"%b: %b\r\n" % (name, value))
        elif kind == _HOST:
            hosts += 1
            request.host = value.strip()
        elif kind == _CONNECTION:
            named = _connection_names(value, named)
        elif kind != _DROP:
            _note(request, kind, value)
    if hosts > 1 or (hosts == 0 and persistent):
        raise BadHead(400, "exactly one Host is needed")
    if named:
        request.lines = [line for line in lines if line.partition(b":")[0].lower() not in named]
    if not target.startswith(b"/"):
        _settle_target(request)
    return request


def _note(request: Request, kind: int, value: bytes) -> None:
    if kind == _LENGTH:
        request.length = int(value)
    elif kind == _CODING:
        if value.strip().lower() != b"chunked":
            raise BadHead(501, "the only transfer coding understood is chunked")
        if not request.persistent:
            raise BadHead(400, "HTTP/1.0 has no transfer codings")
        request.chunked = True
    elif kind == _EXPECT:
        if value.strip().lower() != b"100-continue":
            raise BadHead(417, "the only expectation understood is 100-continue")
        request.expects_continue = request.persistent
    elif kind == _AUTHORIZATION:
        if request.authorization is not None:
            raise BadHead(400, "more than one Authorization")
        request.authorization = value.strip()
    elif kind == _API_KEY:
        if request.api_key is not None:
            raise BadHead(400, "more than one X-API-Key")
        request.api_key = value.strip()
    elif kind == _COOKIE:
        request.cookies = value if not request.cookies else b"%b; %b" % (request.cookies, value)
    elif kind == _FORWARDED_FOR:
        value = value.strip()
        request.forwarded_for = value if request.forwarded_for is None else b"%b, %b" % (request.forwarded_for, value)
    elif kind == _ENDPOINT:
        request.endpoint = value.strip()
    elif kind == _PROJECT:
        if request.project is not None:
            raise BadHead(400, "more than one X-Stoker-Project")
        request.project = value.strip()
    else:
        request.hold_s = _hold(value)


def _connection_names(value: bytes, named: list[bytes] | None) -> list[bytes] | None:
    lower = value.strip().lower()
    if lower in (b"keep-alive", b"close", b""):
        return named
    return (named or []) + [name.strip() for name in lower.split(b",")]


def _foreign_cookies(value: bytes) -> bytes:
    pairs = [pair.strip() for pair in value.split(b";")]
    return b"; ".join(pair for pair in pairs if not pair.startswith(b"stoker_"))


def _hold(value: bytes) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise BadHead(400, "X-Stoker-Hold is a number of seconds, 0 or more")
    return seconds


def _settle_target(request: Request) -> None:
    target = request.target
    if target == b"*" and request.method == b"OPTIONS":
        return
    if request.method == b"CONNECT":
        raise BadHead(501, "this is no forward proxy")
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise BadHead(400, "the request's target is neither a path nor a URL")
    # The authority ends at the first of / and ?; the target's authority then stands in for Host.
    ends = [place for place in (rest.find(b"/"), rest.find(b"?")) if place >= 0]
    end = min(ends, default=len(rest))
    request.host, path = rest[:end], rest[end:]
    request.target = path if path.startswith(b"/") else b"/" + path


def upstream_head(
    request: Request,
    target: bytes,
    *,
    forwarded: bytes,
    keep_authorization: bool,
    keep_api_key: bool,
    keep_own_cookies: bool,
) -> bytes:
    """The head to send to a worker or to control, up to but without its framing lines.

    `forwarded` is the client's own address. A credential is passed on only when it is to be kept, and so are
    Stoker's own cookies.
    """
    host = request.host
    parts = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (request.method, target, host), *request.lines]
    if keep_authorization and request.authorization is not None:
        parts.append(b"Authorization: %b\r\n" % request.authorization)
    if keep_api_key and request.api_key is not None:
        parts.append(b"X-API-Key: %b\r\n" % request.api_key)
    cookies = request.cookies
    if cookies and not keep_own_cookies and b"stoker_" in cookies:
        cookies = _foreign_cookies(cookies)
    if cookies:
        parts.append(b"Cookie: %b\r\n" % cookies)
    peer = forwarded if request.forwarded_for is None else b"%b, %b" % (request.forwarded_for, forwarded)
    parts.append(b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: http\r\n" % peer)
    if host:
        parts.append(b"X-Forwarded-Host: %b\r\n" % host)
    return b"".join(parts)


class ResponseHead:
    """Head of an answer, without framing: `lines` are complete header lines.

    `length` is the length of its body; `None` is unknown: chunks, or until the connection ends (`until_close`).
    `bodyless`: no body follows, whatever `length` says (HEAD, 204, 304).
    """

    __slots__ = ("bodyless", "length", "lines", "status", "until_close")

    def __init__(
        self,
        status: int,
        lines: Sequence[bytes],
        *,
        length: int | None = None,
        bodyless: bool = False,
        until_close: bool = False,
    ) -> None:
        self.status = status
        self.lines = lines
        self.length = length
        self.bodyless = bodyless
        self.until_close = until_close

    def to_bytes(self, *, chunked: bool, connection: bytes | None) -> bytes:
        """The head as it goes to a client. `connection` is the value of that header, `None` for none."""
        parts = [_STATUS_LINES.get(self.status) or b"HTTP/1.1 %d Unknown\r\n" % self.status, *self.lines]
        if chunked:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        elif self.length is not None:
            parts.append(b"Content-Length: %d\r\n" % self.length)
        if connection is not None:
            parts.append(b"Connection: %b\r\n" % connection)
        parts.append(b"\r\n")
        return b"".join(parts)


def interim_head(status: int, headers: Headers) -> bytes:
    """A complete 1xx answer."""
    lines = (b"%b: %b\r\n" % (name, value) for name, value in headers if name.lower() not in _SANDBOX_DROPPED)
    return b"".join((_STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status, *lines, b"\r\n"))


class BadAnswer(Exception):
    """An upstream's head that must not be passed on."""


def read_response(status: int, headers: Headers, *, head_request: bool, sandboxed: bool) -> ResponseHead:
    """The head to pass on of an upstream's answer. `sandboxed` makes a worker's page harmless to the host it shares.

    Raises `BadAnswer` for transfer codings other than chunked.
    """
    dropped = _SANDBOX_DROPPED if sandboxed else _RESPONSE_DROPPED
    lines: list[bytes] = []
    length: int | None = None
    chunked = False
    named: list[bytes] | None = None
    for name, value in headers:
        lower = name.lower()
        if lower not in dropped:
            lines.append(b"%b: %b\r\n" % (name, value))
        elif lower == b"content-length":
            length = int(value)
        elif lower == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise BadAnswer("a transfer coding other than chunked")
            chunked = True
        elif lower == b"connection":
            named = _connection_names(value, named)
    if named:
        lines = [line for line in lines if line.partition(b":")[0].lower() not in named]
    if sandboxed:
        lines.append(SANDBOX_LINE)
    if status == 204:
        length = None
    bodyless = head_request or status in (204, 304)
    until_close = not bodyless and length is None and not chunked
    return ResponseHead(status, lines, length=length, bodyless=bodyless, until_close=until_close)

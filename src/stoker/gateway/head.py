"""Heads of HTTP messages, read once into what routing needs and rewritten once as bytes. Pure: no sockets, no table.

Values arrive from llhttp, which has refused line breaks, NUL and folded lines, so that lines can be copied as they are.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

from stoker.gateway.forwarded import Peer

Headers = list[tuple[bytes, bytes]]

HEAD_BYTES_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 256
BINDING_BYTES_MAX: Final = 256

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
_FORWARDED: Final = 9
_ENDPOINT: Final = 10
_HOLD: Final = 11
_UPGRADE: Final = 12
_TE: Final = 13
_SESSION: Final = 14
_RESERVATION: Final = 15
_WORKER: Final = 16
_COPY: Final = 17
_PROJECT: Final = 18

_REQUEST_HEADERS: Final[dict[bytes, int]] = {
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"expect": _EXPECT,
    b"authorization": _AUTHORIZATION,
    b"x-api-key": _API_KEY,
    b"cookie": _COOKIE,
    b"forwarded": _FORWARDED,
    b"x-real-ip": _FORWARDED,
    b"x-stoker-endpoint": _ENDPOINT,
    b"x-stoker-hold": _HOLD,
    b"x-stoker-project": _PROJECT,
    b"x-stoker-session": _SESSION,
    b"x-stoker-reservation": _RESERVATION,
    b"x-stoker-worker": _WORKER,
    b"keep-alive": _DROP,
    b"proxy-connection": _DROP,
    b"proxy-authorization": _DROP,
    b"te": _TE,
    b"upgrade": _UPGRADE,
    b"http2-settings": _DROP,
}
# What was found out about names as they are spelt by clients, so that most need no second look; bounded.
_spelt: dict[bytes, int] = {}
_SPELT_MAX: Final = 1_024
_SPELT_CHARS_MAX: Final = 40
# Names that in a trailer would change what the head has said, or pass by what the gateway keeps from workers.
_NO_TRAILERS: Final = frozenset({b"content-encoding", b"content-type", b"content-range", b"trailer", b"te"})
# RFC 3986: unreserved, sub-delims, percent; brackets and colon for IPv6 and the port.
_HOST_CHARS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=%:[]"
# llhttp takes RTSP/1.0 and ICE/1.0 for HTTP/1.0 after these.
_NOT_HTTP: Final = frozenset(
    b"ANNOUNCE DESCRIBE FLUSH GET_PARAMETER PAUSE PLAY RECORD REDIRECT SETUP SET_PARAMETER SOURCE TEARDOWN".split()
)


class BadHead(Exception):
    """The request cannot be served as it is; it is answered with `status` and the connection is closed."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Known(Protocol):
    """A head that came before. `way` is what the router remembers of where it leads."""

    way: object


class Request:
    """One request: its head as read, and the part of its body that arrived and was not taken yet.

    `target` is what follows the method, in origin form, byte for byte. `length` is the declared length of the body;
    `None` with `chunked` is unknown, without it there is none. `complete`: the last byte of it has arrived.
    `upgrade`: it asks for a WebSocket. `forwarded` is what it says of hops before, `trailers` are complete lines.
    `session`, `reservation` and `worker` say which worker it belongs to. `known`: its head was read before.
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
        "forwarded",
        "hold_s",
        "host",
        "keep_alive",
        "known",
        "length",
        "lines",
        "method",
        "pending",
        "pending_bytes",
        "persistent",
        "project",
        "reservation",
        "session",
        "target",
        "te",
        "trailers",
        "upgrade",
        "worker",
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
        self.forwarded: Headers | None = None
        self.endpoint: bytes | None = None
        self.hold_s: float | None = None
        self.project: bytes | None = None
        self.session: bytes | None = None
        self.reservation: bytes | None = None
        self.worker: str | None = None
        self.lines: list[bytes] = []
        self.pending: list[bytes] = []
        self.pending_bytes = 0
        self.complete = False
        self.upgrade = False
        self.te = False
        self.trailers: list[bytes] | None = None
        self.error: BadHead | None = None
        self.known: Known | None = None

    def again(self, body: bytes) -> Request:
        """A complete request with this head, as it was read, and this body."""
        it = Request.__new__(Request)
        it.method = self.method
        it.target = self.target
        it.persistent = self.persistent
        it.keep_alive = self.keep_alive
        it.host = self.host
        it.length = None if self.length is None else len(body)
        it.chunked = it.expects_continue = it.upgrade = it.te = False
        it.authorization = self.authorization
        it.api_key = self.api_key
        it.cookies = self.cookies
        it.forwarded = self.forwarded
        it.endpoint = self.endpoint
        it.hold_s = self.hold_s
        it.project = self.project
        it.session = self.session
        it.reservation = self.reservation
        it.worker = self.worker
        it.lines = self.lines
        it.pending = [body] if body else []
        it.pending_bytes = len(body)
        it.complete = True
        it.trailers = it.error = it.known = None
        return it

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
    if not persistent and method in _NOT_HTTP:
        raise BadHead(400, "this is not HTTP")
    if len(headers) > HEADERS_MAX:
        raise BadHead(431, f"at most {HEADERS_MAX} header fields")
    request = Request(method, target, persistent=persistent, keep_alive=keep_alive)
    lines = request.lines
    named: list[bytes] | None = None
    hosts = 0
    for name, value in headers:
        kind = _spelt.get(name)
        if kind is None:
            kind = _kind_of(name)
        if kind == _COPY:
            lines.append(b"%b: %b\r\n" % (name, value))
        elif kind == _HOST:
            hosts += 1
            request.host = value.strip()
        elif kind == _CONNECTION:
            named = connection_names(value, named)
        elif kind != _DROP:
            _note(request, kind, name, value)
    if hosts > 1 or (hosts == 0 and persistent):
        raise BadHead(400, "exactly one Host is needed")
    if request.host.translate(None, _HOST_CHARS):
        raise BadHead(400, "Host is no host")
    if b"#" in target:
        raise BadHead(400, "a target has no fragment")
    if request.te and (named is None or b"te" not in named):
        request.te = False
    if named:
        request.lines = [line for line in lines if line.partition(b":")[0].lower() not in named]
    if not target.startswith(b"/"):
        _settle_target(request)
    return request


def _kind_of(name: bytes) -> int:
    lower = name.lower()
    kind = _kind_of_lower(lower)
    if kind == _COPY and b"_" in lower and _kind_of_lower(lower.replace(b"_", b"-")) != _COPY:
        # Many servers hand both spellings to an application as one.
        kind = _DROP
    if len(_spelt) < _SPELT_MAX and len(name) <= _SPELT_CHARS_MAX:
        _spelt[name] = kind
    return kind


def _kind_of_lower(lower: bytes) -> int:
    kind = _REQUEST_HEADERS.get(lower)
    if kind is not None:
        return kind
    if lower.startswith(b"x-stoker-"):
        return _DROP
    return _FORWARDED if lower.startswith(b"x-forwarded-") else _COPY


def trailer_line(name: bytes, value: bytes) -> bytes | None:
    """A trailer as it is passed on; `None` for one that is not, being something that only a head may say."""
    lower = name.lower()
    if _kind_of_lower(lower.replace(b"_", b"-")) != _COPY or lower in _NO_TRAILERS:
        return None
    return b"%b: %b\r\n" % (name, value)


def _note(request: Request, kind: int, name: bytes, value: bytes) -> None:
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
    elif kind == _FORWARDED:
        if request.forwarded is None:
            request.forwarded = []
        request.forwarded.append((name, value.strip()))
    elif kind == _UPGRADE:
        request.upgrade = value.strip().lower() == b"websocket"
    elif kind == _TE:
        request.te = b"trailers" in value.lower()
    elif kind == _ENDPOINT:
        request.endpoint = value.strip()
    elif kind == _PROJECT:
        if request.project is not None:
            raise BadHead(400, "more than one X-Stoker-Project")
        request.project = value.strip()
    elif kind == _HOLD:
        request.hold_s = _hold(value)
    else:
        _note_binding(request, kind, value.strip())


def _note_binding(request: Request, kind: int, value: bytes) -> None:
    if not 0 < len(value) <= BINDING_BYTES_MAX:
        raise BadHead(400, f"X-Stoker-Session, -Worker and -Reservation have at most {BINDING_BYTES_MAX} characters")
    if kind == _SESSION:
        request.session = value
    elif kind == _RESERVATION:
        request.reservation = value
    else:
        request.worker = value.decode("latin-1")


def connection_names(value: bytes, named: list[bytes] | None) -> list[bytes] | None:
    """The lower-case names of headers that a Connection header adds to `named`; `None` for none."""
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
    forwarded: Peer,
    keep_authorization: bool,
    keep_api_key: bool,
    keep_own_cookies: bool,
) -> bytes:
    """The head to send to a worker or to control, up to but without its framing lines.

    `forwarded` is where it came from. A credential is passed on only when it is to be kept, and so are Stoker's own
    cookies.
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
    if request.upgrade:
        parts.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    elif request.te:
        parts.append(b"Connection: TE\r\nTE: trailers\r\n")
    if forwarded.trusted and request.forwarded is not None:
        parts.append(forwarded.extended(request.forwarded, host))
    else:
        parts.append(forwarded.lines)
        parts.append(b"X-Forwarded-Host: %b\r\n" % host)
    return b"".join(parts)

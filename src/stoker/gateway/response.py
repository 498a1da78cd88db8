"""Heads of answers: an upstream's read once into what framing needs, and written once for the client. Pure.

Values arrive from llhttp, which has refused line breaks, NUL and folded lines, so that lines can be copied as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from stoker.gateway.head import Headers, connection_names

_RESPONSE_DROPPED: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"te",
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
# What would change the meaning of a head that was passed on long ago.
_NO_TRAILERS: Final = frozenset({b"content-encoding", b"content-type", b"content-range", b"trailer", b"set-cookie"})
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ResponseHead:
    """Head of an answer, without framing: `lines` are complete header lines.

    `length` is the length of its body; `None` is unknown: chunks, or until the connection ends (`until_close`).
    `bodyless`: no body follows, whatever `length` says (HEAD, 204, 304). `keep_alive_s` is how long the upstream says
    that it keeps the connection when idle; `None` when it does not say.
    """

    __slots__ = ("bodyless", "keep_alive_s", "length", "lines", "status", "until_close")

    def __init__(
        self,
        status: int,
        lines: Sequence[bytes],
        *,
        length: int | None = None,
        bodyless: bool = False,
        until_close: bool = False,
        keep_alive_s: float | None = None,
    ) -> None:
        self.status = status
        self.lines = lines
        self.length = length
        self.bodyless = bodyless
        self.until_close = until_close
        self.keep_alive_s = keep_alive_s

    def again(self, length: int) -> ResponseHead:
        """The same head for a body of another length."""
        return ResponseHead(self.status, self.lines, length=length, keep_alive_s=self.keep_alive_s)

    def with_line(self, line: bytes) -> ResponseHead:
        """The same head with one line more."""
        return ResponseHead(
            self.status,
            [*self.lines, line],
            length=self.length,
            bodyless=self.bodyless,
            until_close=self.until_close,
            keep_alive_s=self.keep_alive_s,
        )

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


def switching_head(headers: Headers, *, sandboxed: bool) -> bytes | None:
    """A complete 101 for a client that asked for a WebSocket; `None` when these headers agree to something else."""
    dropped = _SANDBOX_DROPPED if sandboxed else _RESPONSE_DROPPED
    lines: list[bytes] = []
    agreed = False
    for name, value in headers:
        lower = name.lower()
        if lower not in dropped:
            lines.append(b"%b: %b\r\n" % (name, value))
        elif lower == b"upgrade":
            agreed = value.strip().lower() == b"websocket"
    if not agreed:
        return None
    return b"".join((_STATUS_LINES[101], b"Connection: Upgrade\r\nUpgrade: websocket\r\n", *lines, b"\r\n"))


def trailer_line(name: bytes, value: bytes, *, sandboxed: bool) -> bytes | None:
    """A trailer of an answer as it is passed on; `None` for one that is not: only a head may say such a thing."""
    lower = name.lower()
    if lower in _NO_TRAILERS or lower in (_SANDBOX_DROPPED if sandboxed else _RESPONSE_DROPPED):
        return None
    return b"%b: %b\r\n" % (name, value)


def _timeout_of(keep_alive: bytes) -> float | None:
    for part in keep_alive.split(b","):
        name, _, value = part.partition(b"=")
        if name.strip().lower() == b"timeout" and value.strip().isdigit():
            return float(value)
    return None


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
    keep_alive_s: float | None = None
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
            named = connection_names(value, named)
        elif lower == b"keep-alive":
            keep_alive_s = _timeout_of(value)
    if named:
        lines = [line for line in lines if line.partition(b":")[0].lower() not in named]
    if sandboxed:
        lines.append(SANDBOX_LINE)
    if status == 204:
        length = None
    bodyless = head_request or status in (204, 304)
    until_close = not bodyless and length is None and not chunked
    return ResponseHead(
        status, lines, length=length, bodyless=bodyless, until_close=until_close, keep_alive_s=keep_alive_s
    )

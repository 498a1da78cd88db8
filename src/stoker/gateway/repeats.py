"""Heads that a connection repeats: recognised by their bytes, so that they are read and routed once. Pure.

The same bytes mean the same, whoever parses them; only the digits of Content-Length may differ. Used by
`gateway.reading` for requests and by `gateway.upstream` for answers, for whole messages that came in a single read.
"""

from __future__ import annotations

from typing import Final

from stoker.gateway.head import Request
from stoker.gateway.response import ResponseHead

# A message longer than this costs more than its head's parsing.
REPEAT_BYTES_MAX: Final = 16 * 1024
# A connection whose heads always differ: looking for repetitions ends after so many in vain.
VAIN_MAX: Final = 8
_DIGITS_MAX: Final = 9
_LENGTH_NAME: Final = b"\r\ncontent-length:"


class Pattern:
    """The bytes of a head around the digits of its Content-Length; `after` is `None` where it has none."""

    __slots__ = ("_after", "_before")

    def __init__(self, before: bytes, after: bytes | None) -> None:
        self._before = before
        self._after = after

    @classmethod
    def of(cls, message: bytes, *, has_length: bool) -> Pattern | None:
        """The pattern of a message that was parsed and found to be whole; `None` for one of unusual spelling."""
        end = message.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        head = message[:end]
        if not has_length:
            return cls(head, None) if end == len(message) else None
        start = head.lower().find(_LENGTH_NAME) + len(_LENGTH_NAME)
        if start < len(_LENGTH_NAME):
            return None
        if head[start : start + 1] == b" ":
            start += 1
        stop = head.find(b"\r", start)
        pattern = cls(head[:start], head[stop:])
        return pattern if pattern.body_at(message) == end else None

    def body_at(self, message: bytes) -> int:
        """Where the body begins of a message that has this head, and this body as a whole; 0 for any other."""
        before, after = self._before, self._after
        if after is None:
            return len(message) if message == before else 0
        if not message.startswith(before):
            return 0
        start = len(before)
        stop = message.find(b"\r", start, start + _DIGITS_MAX + 1)
        if stop <= start or not message.startswith(after, stop):
            return 0
        digits = message[start:stop]
        body = stop + len(after)
        return body if digits.isdigit() and int(digits) == len(message) - body else 0


class KnownRequest:
    """A request's head that was read before; a `head.Known`."""

    __slots__ = ("_pattern", "_request", "way")

    def __init__(self, pattern: Pattern, request: Request) -> None:
        self._pattern = pattern
        self._request = request.again(b"")
        self.way: object = None

    @classmethod
    def of(cls, message: bytes, request: Request) -> KnownRequest | None:
        """What is to be remembered of a request that is all of this message; `None` for one that asks for more."""
        plain = request.keep_alive and request.complete and not request.chunked and request.persistent
        if not plain or request.upgrade or request.expects_continue or request.error is not None:
            return None
        pattern = Pattern.of(message, has_length=request.length is not None)
        return None if pattern is None else cls(pattern, request)

    def read(self, message: bytes) -> Request | None:
        """The request that this message is; `None` when it has another head, or is not exactly one request."""
        body_at = self._pattern.body_at(message)
        if not body_at:
            return None
        request = self._request.again(message[body_at:])
        request.known = self
        return request


class KnownAnswer:
    """The head of an answer that was read before, as it is passed on."""

    __slots__ = ("_head", "_pattern", "_sandboxed")

    def __init__(self, pattern: Pattern, head: ResponseHead, *, sandboxed: bool) -> None:
        self._pattern = pattern
        self._head = head
        self._sandboxed = sandboxed

    @classmethod
    def of(cls, message: bytes, head: ResponseHead, *, sandboxed: bool) -> KnownAnswer | None:
        """What is to be remembered of an answer that is all of this message."""
        # Not after a 1xx in the same bytes: its head would be taken for the answer's.
        if head.bodyless or head.length is None or message[9:12] != b"%d" % head.status:
            return None
        pattern = Pattern.of(message, has_length=True)
        if pattern is None:
            return None
        joined = ResponseHead(head.status, (b"".join(head.lines),), length=head.length, keep_alive_s=head.keep_alive_s)
        return cls(pattern, joined, sandboxed=sandboxed)

    def read(self, message: bytes, *, sandboxed: bool) -> tuple[ResponseHead, bytes] | None:
        """Head and body that this message is; `None` when it has another head, or is not exactly one answer."""
        if sandboxed is not self._sandboxed:
            return None
        body_at = self._pattern.body_at(message)
        if not body_at:
            return None
        return self._head.again(len(message) - body_at), message[body_at:]

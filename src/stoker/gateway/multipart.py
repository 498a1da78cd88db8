"""Finds one short field of a form (`multipart/form-data`) as its body arrives. Pure; reads nothing else of it."""

from __future__ import annotations

import re
from typing import Final

from stoker.gateway.head import Request

FIELD_BYTES_MAX: Final = 1_024
_BOUNDARY: Final = re.compile(rb'boundary=(?:"([^"\r\n]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)
_NAME: Final = re.compile(rb'^content-disposition:[^\r\n]*[;\s]name="?([^";\r\n]*)"?', re.IGNORECASE | re.MULTILINE)


def boundary_of(request: Request) -> bytes | None:
    """What separates the parts of the request's form; `None` when it is no form."""
    for line in request.lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-type" and value.strip().lower().startswith(b"multipart/form-data"):
            found = _BOUNDARY.search(value)
            return None if found is None else found[1] or found[2]
    return None


class Field:
    """A field of a form, looked for now and then: `value` once it is there. `known`: that is decided."""

    __slots__ = ("_delimiter", "_name", "_tried", "known", "value")

    def __init__(self, boundary: bytes, name: bytes) -> None:
        self._delimiter = b"--" + boundary
        self._name = name
        self._tried = 0
        self.known = False
        self.value: str | None = None

    def look(self, request: Request) -> bool:
        """Look at what has arrived; True when there is no need to wait for more."""
        size = request.pending_bytes
        # With every doubling only: a body that comes in small pieces must not be searched for each of them.
        if not self.known and (request.complete or size >= 2 * self._tried or size < FIELD_BYTES_MAX):
            self._tried = size
            body = b"".join(request.pending)
            request.pending = [body] if body else []
            self._search(body)
        return self.known

    def _search(self, body: bytes) -> None:
        delimiter = self._delimiter
        at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter)
        while at >= 0:
            start = body.find(delimiter, at) + len(delimiter)
            if body[start : start + 2] == b"--":
                self.known = True
                return
            head_end = body.find(b"\r\n\r\n", start)
            end = -1 if head_end < 0 else body.find(b"\r\n" + delimiter, head_end + 2)
            if end < 0:
                return
            found = _NAME.search(body[start:head_end])
            if found is not None and found[1] == self._name:
                self.known = True
                text = body[head_end + 4 : end]
                self.value = text.decode("utf-8", "replace") if len(text) <= FIELD_BYTES_MAX else None
                return
            at = end

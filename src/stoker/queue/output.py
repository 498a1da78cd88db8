"""What workers answer as events that can be told again: cut out of the bytes of the answer, known by where they end.

Pure. The answer itself is the log: whoever reads its bytes again, from any end of an event on, gets the same events.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import Literal

# An event longer than this comes in pieces.
EVENT_BYTES_MAX = 1024 * 1024
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-lines"})
_TEXTS = frozenset({"application/json", "application/xml", "application/javascript"})
Kind = Literal["events", "lines", "text", "bytes"]


@dataclass(frozen=True, slots=True)
class Piece:
    """One event of an answer. `end` is where it ends in it, in bytes; `name` is empty for a plain message."""

    end: int
    name: str
    data: str


def kind_of(content_type: str | None) -> Kind:
    """How an answer of this type is cut: server-sent events, one document a line, text as it comes, or not at all."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return "events"
    if kind in _LINES:
        return "lines"
    return "text" if kind.startswith("text/") or kind in _TEXTS or kind.endswith("+json") else "bytes"


class Cutter:
    """Cuts an answer that begins, or goes on, at `offset`, which must be 0 or the end of an event."""

    def __init__(self, content_type: str | None, offset: int) -> None:
        self._kind = kind_of(content_type)
        self._held = b""
        self._offset = offset
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> list[Piece]:
        """The events that end within `data`."""
        if self._kind == "bytes":
            return []
        if self._kind == "text":
            return self._text(data)
        self._held += data
        found = []
        while (cut := self._cut()) is not None:
            block, self._held = self._held[: cut[0]], self._held[cut[1] :]
            self._offset += cut[1]
            piece = self._piece(block)
            if piece is not None:
                found.append(piece)
        return found

    def rest(self) -> list[Piece]:
        """What the end of the answer makes an event of."""
        block, self._held = self._held, b""
        self._offset += len(block)
        piece = self._piece(block) if block.strip() else None
        return [] if piece is None else [piece]

    def _cut(self) -> tuple[int, int] | None:
        if self._kind == "events":
            match = _BLANK_LINE.search(self._held)
            place = None if match is None else match.span()
        else:
            end = self._held.find(b"\n")
            place = None if end < 0 else (end, end + 1)
        if place is None and len(self._held) > EVENT_BYTES_MAX:
            return len(self._held), len(self._held)
        return place

    def _piece(self, block: bytes) -> Piece | None:
        text = block.decode("utf-8", "replace")
        if self._kind == "lines":
            return Piece(self._offset, "", text.strip()) if text.strip() else None
        name, data = "", []
        for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "event":
                name = value
        return Piece(self._offset, name, "\n".join(data)) if data else None

    def _text(self, data: bytes) -> list[Piece]:
        text = self._decoder.decode(data)
        whole = len(data) + len(self._held)
        # A character that is not whole yet belongs to the next event.
        self._held = self._decoder.getstate()[0]
        self._offset += whole - len(self._held)
        return [Piece(self._offset, "output", json.dumps(text, ensure_ascii=False))] if text else []

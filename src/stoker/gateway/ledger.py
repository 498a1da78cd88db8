"""The book of requests that have ended: sums by endpoint and key, and the facts of each, for the next reports.

A request costs one tuple; everything else happens when a report is made. `gateway.exchange` notes, `gateway.reports`
takes. Sums are never dropped; facts beyond a bound are, and counted.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from stoker.domain.usage import CLIENT_LEFT, failed
from stoker.link.messages import EndpointEntry, FactEntry, UsageEntry

__all__ = ["CLIENT_LEFT", "Ledger", "Note", "Trace", "tokens_in"]

# Notes not yet looked at: each may hold a little of its answer.
NOTED_MAX: Final = 4_096
# Facts that wait for a control that is away: about ten minutes of 50 requests a second.
FACTS_MAX: Final = 32_768
FACTS_IN_REPORT: Final = 8_192
# Beyond so many pairs of endpoint and key, the rest is counted without its key.
PAIRS_MAX: Final = 50_000
# Engines write what a request used at the end of its answer.
TAIL_BYTES: Final = 2_048

# OpenAI's own words, which all engines speak; llama.cpp's timings are in every answer, streams without usage included.
_PROMPT: Final = re.compile(rb'"prompt_tokens"\s*:\s*(\d{1,9})\b')
_COMPLETION: Final = re.compile(rb'"completion_tokens"\s*:\s*(\d{1,9})\b')
_TIMINGS: Final = re.compile(rb'"timings"\s*:\s*\{([^{}]*)\}')
_COUNT: Final = re.compile(rb'"(cache_n|prompt_n|predicted_n)"\s*:\s*(\d{1,9})\b')


class Note(NamedTuple):
    """One request, as its exchange saw it; times are the event loop's. `tail` is the end of its answer's body."""

    endpoint: str
    project: int
    key: str | None
    arrived_at: float
    admitted_at: float | None
    first_byte_at: float | None
    ended_at: float
    status: int
    tail: bytes


class Trace:
    """What an exchange remembers of itself for its note. `tail`: the last two pieces of the answer, since what it used
    may be said across them.
    """

    __slots__ = ("admitted_at", "first_byte_at", "key", "status", "tail")

    def __init__(self, key: str | None) -> None:
        self.key = key
        self.admitted_at: float | None = None
        self.first_byte_at: float | None = None
        self.status = CLIENT_LEFT
        self.tail = (b"", b"")

    def began(self, status: int, now: float) -> None:
        """The head of the answer is there."""
        self.status = status
        self.first_byte_at = now

    def refused(self, status: int) -> None:
        """Admission has answered, perhaps after a worker that could not be reached."""
        self.status = status
        self.admitted_at = None

    def note(self, entry: EndpointEntry, arrived_at: float, now: float) -> Note:
        """The note of a request to this endpoint that ends now."""
        before, last = self.tail
        tail = last if len(last) >= TAIL_BYTES else before + last
        return Note(
            entry.id,
            entry.project,
            self.key,
            arrived_at,
            self.admitted_at,
            self.first_byte_at,
            now,
            self.status,
            tail[-TAIL_BYTES:],
        )


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    errors: int = 0
    metered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Ledger:
    """See the module. `began_at` is the event loop's time at the gateway's start."""

    def __init__(self, began_at: float) -> None:
        self._began_at = began_at
        self._noted: list[Note] = []
        self._sums: dict[tuple[str, int, str | None], _Sum] = {}
        self._grown: set[tuple[str, int, str | None]] = set()
        self._gone: set[str] = set()
        self._facts: deque[FactEntry] = deque()
        self.dropped = 0

    def note(self, note: Note) -> None:
        """A request has ended."""
        self._noted.append(note)
        if len(self._noted) >= NOTED_MAX:
            self._enter()

    @property
    def news(self) -> bool:
        """Is there anything to report?"""
        return bool(self._noted or self._grown or self._facts)

    def take(self) -> tuple[tuple[UsageEntry, ...], tuple[FactEntry, ...]]:
        """The sums that have grown and the facts, for one report."""
        self._enter()
        grown, self._grown = self._grown, set()
        entries = self._entries(grown)
        if self._gone:
            for pair in [pair for pair in self._sums if pair[0] in self._gone]:
                del self._sums[pair]
            self._gone.clear()
        count = min(len(self._facts), FACTS_IN_REPORT)
        return entries, tuple(self._facts.popleft() for _ in range(count))

    def say_again(self) -> None:
        """Control is new, or may have missed something: the next report has all sums."""
        self._enter()
        self._grown = set(self._sums)

    def unsaid(self, facts: int) -> None:
        """What was taken last, with so many facts, has not been sent."""
        self.say_again()
        self.dropped += facts

    def forget(self, endpoints: Iterable[str]) -> None:
        """These endpoints are deleted: once what was used of them is reported, nobody asks for it any more."""
        self._gone.update(endpoints)

    def _entries(self, pairs: Iterable[tuple[str, int, str | None]]) -> tuple[UsageEntry, ...]:
        return tuple(
            UsageEntry(*pair, s.requests, s.errors, s.metered, s.prompt_tokens, s.completion_tokens)
            for pair in pairs
            if (s := self._sums.get(pair)) is not None
        )

    def _enter(self) -> None:
        noted, self._noted = self._noted, []
        for note in noted:
            prompt, completion = tokens_in(note.tail)
            self._add(note, prompt, completion)
            if len(self._facts) >= FACTS_MAX:
                self._facts.popleft()
                self.dropped += 1
            self._facts.append(self._fact(note, prompt, completion))

    def _add(self, note: Note, prompt: int | None, completion: int | None) -> None:
        pair = (note.endpoint, note.project, note.key)
        if pair not in self._sums and len(self._sums) >= PAIRS_MAX:
            pair = (note.endpoint, note.project, None)
        total = self._sums.setdefault(pair, _Sum())
        total.requests += 1
        total.errors += failed(note.status)
        if prompt is not None or completion is not None:
            total.metered += 1
            total.prompt_tokens += prompt or 0
            total.completion_tokens += completion or 0
        self._grown.add(pair)

    def _fact(self, note: Note, prompt: int | None, completion: int | None) -> FactEntry:
        admitted, first = note.admitted_at, note.first_byte_at
        return FactEntry(
            endpoint=note.endpoint,
            offset_s=round(note.arrived_at - self._began_at, 3),
            wait_s=round((note.ended_at if admitted is None else admitted) - note.arrived_at, 3),
            service_s=None if admitted is None else round(note.ended_at - admitted, 3),
            first_byte_s=None if admitted is None or first is None else round(first - admitted, 3),
            prompt_tokens=prompt,
            completion_tokens=completion,
            status=note.status,
            key=note.key,
        )


def tokens_in(tail: bytes) -> tuple[int | None, int | None]:
    """Tokens of prompt and completion, out of the end of an answer: its usage, else llama.cpp's timings."""
    if b"_tokens" not in tail and b'"timings"' not in tail:
        return None, None
    prompt, completion = _last(_PROMPT, tail), _last(_COMPLETION, tail)
    if prompt is None and completion is None and (timings := _TIMINGS.findall(tail)):
        counts = {name: int(value) for name, value in _COUNT.findall(timings[-1])}
        if b"prompt_n" in counts:
            prompt = counts[b"prompt_n"] + counts.get(b"cache_n", 0)
        completion = counts.get(b"predicted_n")
    return prompt, completion


def _last(pattern: re.Pattern[bytes], text: bytes) -> int | None:
    found = pattern.findall(text)
    return int(found[-1]) if found else None

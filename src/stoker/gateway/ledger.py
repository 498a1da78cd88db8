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
from stoker.gateway.measures import Measures
from stoker.link.messages import EndpointEntry, FactEntry, UsageEntry

__all__ = ["CLIENT_LEFT", "Ledger", "Note", "Trace", "tokens_in"]

# Notes not yet looked at. Few: what they are made of is fresh in caches, and no request waits behind many of them.
NOTED_MAX: Final = 64
# Facts that wait for a control that is away: about ten minutes of 50 requests a second.
FACTS_MAX: Final = 32_768
FACTS_IN_REPORT: Final = 8_192
# Beyond so many pairs of endpoint and key, the rest is counted without its key.
PAIRS_MAX: Final = 50_000
# Engines write what a request used at the end of its answer.
TAIL_BYTES: Final = 2_048

# OpenAI's own words, which all engines speak; llama.cpp's timings are in every answer, streams without usage included.
_PROMPT: Final = b'"prompt_tokens"'
_COMPLETION: Final = b'"completion_tokens"'
_NUMBER: Final = re.compile(rb"\s*:\s*(\d{1,9})\b")
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
        self.measures = Measures()

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
        self.measures.say_again()

    def unsaid(self, facts: int) -> None:
        """What was taken last, with so many facts, has not been sent."""
        self.say_again()
        self.dropped += facts

    def forget(self, endpoints: Iterable[str]) -> None:
        """These endpoints are deleted: once what was used of them is reported, nobody asks for it any more."""
        gone = tuple(endpoints)
        self._gone.update(gone)
        self.measures.forget(gone)

    def _entries(self, pairs: Iterable[tuple[str, int, str | None]]) -> tuple[UsageEntry, ...]:
        return tuple(
            UsageEntry(*pair, s.requests, s.errors, s.metered, s.prompt_tokens, s.completion_tokens)
            for pair in pairs
            if (s := self._sums.get(pair)) is not None
        )

    def _enter(self) -> None:
        noted, self._noted = self._noted, []
        facts, began_at = self._facts, self._began_at
        for endpoint, project, key, arrived, admitted, first, ended, status, tail in noted:
            prompt, completion = tokens_in(tail)
            self._add((endpoint, project, key), status, prompt, completion)
            service_s = first_byte_s = None
            wait_s = ended - arrived
            if admitted is not None:
                wait_s, service_s = admitted - arrived, ended - admitted
                first_byte_s = None if first is None else first - admitted
                since_arrival_s = None if first is None else first - arrived
                self.measures.add(endpoint, service_s, since_arrival_s, prompt, completion)
                # Milliseconds, as round(..., 3) would say in five times the time.
                service_s = int(service_s * 1e3 + 0.5) / 1e3
                if first_byte_s is not None:
                    first_byte_s = int(first_byte_s * 1e3 + 0.5) / 1e3
            offset_s = int((arrived - began_at) * 1e3 + 0.5) / 1e3
            wait_s = int(wait_s * 1e3 + 0.5) / 1e3
            facts.append(
                FactEntry(endpoint, offset_s, wait_s, service_s, first_byte_s, prompt, completion, status, key)
            )
        while len(facts) > FACTS_MAX:
            facts.popleft()
            self.dropped += 1

    def _add(self, pair: tuple[str, int, str | None], status: int, prompt: int | None, completion: int | None) -> None:
        total = self._sums.get(pair)
        if total is None:
            if len(self._sums) >= PAIRS_MAX:
                pair = (pair[0], pair[1], None)
            total = self._sums.setdefault(pair, _Sum())
        total.requests += 1
        if status >= 400:
            total.errors += failed(status)
        if prompt is not None or completion is not None:
            total.metered += 1
            total.prompt_tokens += prompt or 0
            total.completion_tokens += completion or 0
        self._grown.add(pair)


def tokens_in(tail: bytes) -> tuple[int | None, int | None]:
    """Tokens of prompt and completion, out of the end of an answer: its usage, else llama.cpp's timings."""
    prompt, completion = _last(_PROMPT, tail), _last(_COMPLETION, tail)
    if prompt is None and completion is None and b'"timings"' in tail and (timings := _TIMINGS.findall(tail)):
        counts = {name: int(value) for name, value in _COUNT.findall(timings[-1])}
        if b"prompt_n" in counts:
            prompt = counts[b"prompt_n"] + counts.get(b"cache_n", 0)
        completion = counts.get(b"predicted_n")
    return prompt, completion


def _last(name: bytes, text: bytes) -> int | None:
    # Backwards: the last that has a number counts, and in nearly every answer that is the last.
    at = text.rfind(name)
    while at >= 0:
        found = _NUMBER.match(text, at + len(name))
        if found is not None:
            return int(found[1])
        at = text.rfind(name, 0, at)
    return None

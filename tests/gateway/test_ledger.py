"""The book of ended requests: sums that never lose anything, facts that are bounded, tokens out of real answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.loopback import Site, endpoint, run, site, until, worker
from gateway.wire import Asked, answer
from stoker.gateway.ledger import FACTS_IN_REPORT, FACTS_MAX, NOTED_MAX, Ledger, Note, tokens_in
from stoker.link.messages import FactEntry, Report, UsageEntry

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
# As llama.cpp ends a stream that was not asked for usage.
TIMINGS = (
    b'data: {"choices":[],"timings":{"cache_n":3,"prompt_n":8,"prompt_ms":1.5,"predicted_n":7}}\n\ndata: [DONE]\n\n'
)


def note(endpoint: str = "e", *, key: str | None = "k", status: int = 200, tail: bytes = b"", at: float = 1.0) -> Note:
    return Note(endpoint, 1, key, at, at + 0.5, at + 1.0, at + 2.0, status, tail)


def used(tokens: int) -> bytes:
    return json.dumps({"usage": {"prompt_tokens": tokens, "completion_tokens": 2 * tokens}}).encode()


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        pytest.param(json.dumps({"choices": [], "usage": USAGE}).encode(), (11, 7), id="an answer"),
        pytest.param(
            b"data: " + json.dumps({"usage": USAGE}).encode() + b"\n\ndata: [DONE]\n\n", (11, 7), id="a stream"
        ),
        pytest.param(TIMINGS, (11, 7), id="llama.cpp's timings"),
        pytest.param(b'{"usage":{"prompt_tokens":5,"total_tokens":5}}', (5, None), id="embeddings"),
        pytest.param(b'{"usage":null}', (None, None), id="no usage"),
        pytest.param(b"\x00\xff plain", (None, None), id="something else"),
        pytest.param(b"", (None, None), id="nothing"),
    ],
)
def test_tokens_are_read_from_the_end_of_an_answer_or_are_unknown(
    tail: bytes, expected: tuple[int | None, int | None]
) -> None:
    assert tokens_in(tail) == expected


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("ab"), st.sampled_from(("k", "l", None)), st.integers(0, 9), st.booleans()),
            st.just("take"),
            st.just("again"),
        ),
        max_size=60,
    )
)
def test_the_last_word_of_every_sum_is_all_that_was_noted(steps: list[Any]) -> None:
    ledger = Ledger(0.0)
    expected: dict[tuple[str, str | None], list[int]] = {}
    said: dict[tuple[str, str | None], UsageEntry] = {}
    facts: list[FactEntry] = []

    def take() -> None:
        entries, more = ledger.take()
        said.update({(entry.endpoint, entry.key): entry for entry in entries})
        facts.extend(more)

    for step in steps:
        if step == "take":
            take()
        elif step == "again":
            ledger.say_again()
        else:
            name, key, tokens, fails = step
            ledger.note(note(name, key=key, status=502 if fails else 200, tail=used(tokens) if tokens else b""))
            for index, value in enumerate((1, int(fails), int(tokens > 0), tokens, 2 * tokens)):
                expected.setdefault((name, key), [0] * 5)[index] += value
    take()
    assert {
        pair: [e.requests, e.errors, e.metered, e.prompt_tokens, e.completion_tokens] for pair, e in said.items()
    } == expected
    assert len(facts) == sum(values[0] for values in expected.values())


def test_facts_beyond_the_bound_are_dropped_and_counted_while_sums_stay_exact() -> None:
    ledger = Ledger(0.0)
    count = FACTS_MAX + 2 * NOTED_MAX
    for index in range(count):
        ledger.note(note(at=float(index)))
    entries, facts = ledger.take()
    assert entries[0].requests == count
    assert ledger.dropped == count - FACTS_MAX
    assert len(facts) == FACTS_IN_REPORT, "one report has only so many"
    assert facts[0].offset_s == ledger.dropped, "the oldest went first"


def test_what_could_not_be_sent_is_said_again_and_its_facts_are_counted_as_dropped() -> None:
    ledger = Ledger(0.0)
    ledger.note(note())
    entries, facts = ledger.take()
    ledger.unsaid(len(facts))
    assert ledger.take() == (entries, ())
    assert ledger.dropped == 1


def test_a_deleted_endpoint_is_reported_once_more_and_then_forgotten() -> None:
    ledger = Ledger(0.0)
    ledger.note(note("gone"))
    ledger.note(note("stays"))
    ledger.forget(["gone"])
    assert {entry.endpoint for entry in ledger.take()[0]} == {"gone", "stays"}
    ledger.say_again()
    assert {entry.endpoint for entry in ledger.take()[0]} == {"stays"}


async def usage(s: Site) -> UsageEntry:
    """The last word about the endpoint."""
    await until(lambda: any(report.usage for report in s.control.all(Report)))
    return [entry for report in s.control.all(Report) for entry in report.usage][-1]


def facts(s: Site) -> list[FactEntry]:
    return [fact for report in s.control.all(Report) for fact in report.facts]


async def speaks(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A worker that says what it used, in two pieces that cut the words."""
    body = json.dumps({"choices": [], "usage": USAGE}).encode()
    whole = answer(body)
    writer.write(whole[:-30])
    await writer.drain()
    await asyncio.sleep(0.02)
    writer.write(whole[-30:])


def test_a_request_is_told_of_with_its_times_its_tokens_its_status_and_its_key(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(speaks) as w, site(tmp_path, endpoint(w.entry())) as s:
            assert (await s.ask("POST", "/e/chat/x", body=b"hello")).status == 200
            entry = await usage(s)
            assert (entry.endpoint, entry.project, entry.key) == ("id-chat", 1, "key-1")
            assert (entry.requests, entry.errors, entry.metered) == (1, 0, 1)
            [fact] = facts(s)
            assert (fact.status, fact.key, fact.prompt_tokens, fact.completion_tokens) == (200, "key-1", 11, 7)
            assert fact.service_s is not None
            assert fact.first_byte_s is not None
            assert 0 <= fact.first_byte_s <= fact.service_s
            assert fact.service_s >= 0.01

    run(main)


def test_refused_requests_and_those_whose_client_left_are_told_apart(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint()) as s:
            assert (await s.ask("POST", "/e/chat/x", "X-Stoker-Hold: 0", body=b"x")).status == 503
            client = await s.connect()
            await client.send("POST", "/e/chat/x", body=b"x")
            await until(lambda: s.gateway.admissions["id-chat"].waiting)
            client.close()
            await until(lambda: len(facts(s)) == 2)
            assert [fact.status for fact in facts(s)] == [503, 499]
            assert [fact.service_s for fact in facts(s)] == [None, None]
            entry = await usage(s)
            assert (entry.requests, entry.errors, entry.metered) == (2, 1, 0)

    run(main)

"""The wire: what is said is what is heard, and what is new does no harm."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.link.messages import (
    Ack,
    AddressEntry,
    Delta,
    EndpointEntry,
    EndpointReport,
    Hello,
    KeyEntry,
    Report,
    Snapshot,
    Wake,
    WorkerDown,
    WorkerEntry,
    decode_to_control,
    decode_to_gateway,
    encode,
)

texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**53), 2**53)
reals = st.floats(allow_nan=False, allow_infinity=False)
perhaps = st.none() | reals


def tuples(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=3).map(tuple)


endpoints = st.builds(
    EndpointEntry,
    id=texts,
    number=numbers,
    project=numbers,
    slug=texts,
    name=texts,
    access=texts,
    models=tuples(texts),
    addresses=tuples(st.builds(AddressEntry, prefix=texts, host=texts, strip=st.booleans(), worker=st.none() | texts)),
    workers=tuples(
        st.builds(WorkerEntry, id=texts, host=texts, port=numbers, slots=numbers, order=numbers, draining=st.booleans())
    ),
    waiting_max=numbers,
    wait_s_max=reals,
    connect_s=reals,
    first_byte_s=perhaps,
    idle_s=perhaps,
    total_s=perhaps,
    created_s=reals,
    refusal=st.none() | texts,
    refusal_text=texts,
    retry_after_s=perhaps,
    attached=tuples(texts),
)
keys = st.builds(
    KeyEntry, digest=texts, id=texts, project=numbers, invoke=st.booleans(), endpoints=st.none() | tuples(texts)
)
hellos = st.builds(Hello, version=numbers, incarnation=texts, term=numbers)
to_gateway = st.one_of(
    hellos,
    st.builds(Snapshot, seq=numbers, endpoints=tuples(endpoints), keys=tuples(keys)),
    st.builds(
        Delta,
        seq=numbers,
        endpoints=tuples(endpoints),
        endpoints_gone=tuples(texts),
        keys=tuples(keys),
        keys_gone=tuples(texts),
    ),
)
reports = st.builds(
    EndpointReport,
    id=texts,
    in_flight=numbers,
    waiting=numbers,
    oldest_wait_s=reals,
    arrivals=numbers,
    completions=numbers,
    errors=numbers,
    refusals=numbers,
    busy_s=reals,
    wait_s=reals,
    workers=st.dictionaries(texts, numbers, max_size=3),
)
to_control = st.one_of(
    hellos,
    st.builds(Ack, seq=numbers),
    st.builds(Report, seq=numbers, uptime_s=reals, endpoints=tuples(reports)),
    st.builds(Wake, endpoint=texts, waiting=numbers),
    st.builds(WorkerDown, endpoint=texts, worker=texts, reason=texts),
)


@given(to_gateway)
def test_what_control_says_is_what_the_gateway_hears(message: Any) -> None:
    line = encode(message)
    assert (line.count(b"\n"), line[-1:]) == (1, b"\n"), "one line, whatever it says"
    assert decode_to_gateway(line) == message


@given(to_control)
def test_what_the_gateway_says_is_what_control_hears(message: Any) -> None:
    line = encode(message)
    assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
    assert decode_to_control(line) == message


@given(to_gateway, texts.map("x".__add__), st.integers())
def test_fields_of_a_newer_control_are_ignored(message: Any, field: str, value: int) -> None:
    told = msgspec.json.decode(encode(message))
    told[field] = value
    for entry in told.get("endpoints", []):
        entry[field] = value
    assert decode_to_gateway(msgspec.json.encode(told)) == message


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b'{"type":"nothing"}',
        b'{"type":"ack"}',
        b'{"type":"ack","seq":"1"}',
        b'{"type":"ack","seq":1.5}',
        b'{"type":"snapshot","seq":1,"endpoints":[],"keys":[]}',
        b'{"type":"ack","seq":1} trailing',
        b"\xff",
    ],
)
def test_what_is_no_message_to_control_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_to_control(line)


def test_messages_have_a_direction() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_to_gateway(encode(Ack(1)))

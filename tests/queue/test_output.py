"""Answers as events: the same whatever pieces they arrive in, and from the end of any event on."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from stoker.queue.output import EVENT_BYTES_MAX, Cutter, Piece, kind_of

EVENTS = "text/event-stream; charset=utf-8"
ANSWERS = st.lists(
    st.sampled_from(
        ["data: a\n\n", ": beat\n\n", "event: x\ndata: {\ndata: }\n\n", "data: é漢\r\n\r\n", "\n", "data: z", "ü"]
    )
).map(lambda parts: "".join(parts).encode())


def cut(content_type: str, answer: bytes, *, step: int, offset: int = 0) -> list[Piece]:
    cutter = Cutter(content_type, offset)
    pieces = [
        piece
        for at in range(offset, len(answer), step)
        for piece in cutter.feed(answer[at : min(at + step, len(answer))])
    ]
    return pieces + cutter.rest()


@given(ANSWERS, st.integers(1, 9), st.sampled_from([EVENTS, "application/x-ndjson"]))
def test_however_an_answer_arrives_its_events_are_the_same_and_each_is_a_place_to_go_on_at(
    answer: bytes, step: int, content_type: str
) -> None:
    whole = cut(content_type, answer, step=max(1, len(answer)))
    assert cut(content_type, answer, step=step) == whole
    assert all(one.end < other.end for one, other in itertools.pairwise(whole))
    for number, piece in enumerate(whole):
        assert cut(content_type, answer, step=step, offset=piece.end) == whole[number + 1 :]


@given(st.text(), st.integers(1, 9))
def test_text_loses_no_character_wherever_it_is_cut(text: str, step: int) -> None:
    answer = text.encode()
    pieces = cut("text/plain", answer, step=step)
    assert "".join(json.loads(piece.data) for piece in pieces) == text
    for piece in pieces:
        answer[: piece.end].decode()


def test_names_and_lines_of_a_workers_events_stay() -> None:
    [first, second] = cut(EVENTS, b"event: token\nid: 7\ndata: a\ndata: b\n\n:nothing\n\ndata:c\n\n", step=3)
    assert (first.name, first.data) == ("token", "a\nb")
    assert (second.name, second.data) == ("", "c")


def test_what_is_no_text_is_no_event_and_what_never_ends_comes_in_pieces() -> None:
    assert (kind_of("image/png"), kind_of(None), kind_of("application/json")) == ("bytes", "bytes", "text")
    assert cut("image/png", b"\x89PNG", step=4) == []
    endless = cut("application/jsonl", b"x" * (2 * EVENT_BYTES_MAX + 3), step=EVENT_BYTES_MAX)
    assert [len(piece.data) for piece in endless] == [2 * EVENT_BYTES_MAX, 3]

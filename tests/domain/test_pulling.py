"""Errors of handlers, in one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.pulling import REASON_CHARS_MAX, cause_of, is_input


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("I will not", "I will not"),
        (json.dumps({"error_type": "<class 'ValueError'>", "error_message": "no"}), "ValueError: no"),
        (json.dumps({"error_type": "<class 'a.b.Odd'>", "error_message": "no"}), "a.b.Odd: no"),
        (json.dumps({"error_message": "no"}), "no"),
        (json.dumps({"error_message": 5}), '{"error_message": 5}'),
        ("[" * 100_000, "[" * REASON_CHARS_MAX),
        (" ", "the handler failed"),
    ],
)
def test_an_error_is_told_in_one_line(error: str, cause: str) -> None:
    assert cause_of(error) == cause


@pytest.mark.parametrize(
    ("body", "is_one"),
    [
        (b"", True),
        (b'{"a": [1, null]}', True),
        ('"ü"'.encode(), True),
        ('"ü"'.encode("latin-1"), False),
        (b"NaN", False),
        (b"{", False),
        (b"1 2", False),
        (b"[" * 100_000, False),
    ],
)
def test_a_job_s_input_is_json_or_nothing(body: bytes, is_one: bool) -> None:
    assert is_input(body) is is_one


@given(
    st.text()
    | st.recursive(st.none() | st.text() | st.integers(), lambda of: st.dictionaries(st.text(), of)).map(json.dumps)
)
def test_whatever_it_is_there_is_a_bounded_reason(error: str) -> None:
    assert 1 <= len(cause_of(error)) <= REASON_CHARS_MAX

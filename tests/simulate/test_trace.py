"""Reading traces and profiles."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from stoker.domain.errors import Invalid
from stoker.simulate.trace import PROFILES, parse_trace, profile_of, read_trace

TEXT = "endpoint,arrival_s,input_tokens,output_tokens\nb,3.5,10,20\na,2,1,2\na,1,8000,50\n"


def test_a_compressed_file_has_endpoints_by_name_and_requests_in_the_order_of_arrival(tmp_path: Path) -> None:
    path = tmp_path / "small.csv.gz"
    path.write_bytes(gzip.compress(TEXT.encode()))
    trace = read_trace(path)
    assert (trace.name, trace.requests) == ("small", 3)
    assert [endpoint.name for endpoint in trace.endpoints] == ["a", "b"]
    assert tuple(trace.endpoints[0].arrivals) == (1.0, 2.0)
    assert PROFILES["A"].services(trace.endpoints[0])[0] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arrival_s,input_tokens\n1,2\n", "no column output_tokens"),
        ("arrival_s,input_tokens,output_tokens\n1,2,x\n", "line 2"),
        ("arrival_s,input_tokens,output_tokens\n-1,2,3\n", "not negative"),
        ("arrival_s,input_tokens,output_tokens\nnan,2,3\n", "finite"),
        ("arrival_s,input_tokens,output_tokens\n", "no requests"),
    ],
)
def test_a_bad_trace_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse_trace("bad", text.splitlines())


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(TEXT.encode())[:-12])
    with pytest.raises(Invalid, match="cannot be read"):
        read_trace(path)


def test_a_profile_is_a_letter_and_changes_of_it() -> None:
    profile = profile_of("b, slots=8,start_s=30,cold=yes")
    assert (profile.prefill, profile.slots, profile.start_s, profile.cold) == (4000.0, 8, 30.0, True)
    assert profile_of("C") == PROFILES["C"]


@pytest.mark.parametrize("text", ["D", "A,slots", "A,slots=x", "A,nothing=1", "A,slots=0", "sigma=-1", "start_s=inf"])
def test_a_bad_profile_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        profile_of(text)

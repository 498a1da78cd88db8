"""Reading traces and profiles."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.domain.errors import Invalid
from stoker.simulate.trace import PROFILES, parse_trace, profile_of, read_trace

HEADER = "arrival_s,input_tokens,output_tokens"
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
        ("", "no column arrival_s, input_tokens, output_tokens"),
        (f"{HEADER}\n0,1,1\n\n1,2.5,3\n", "line 4: input_tokens is '2.5', which is no whole number"),
        (f"{HEADER}\n1,2,nan\n", "output_tokens is 'nan'"),
        (f"{HEADER}\nsoon,2,3\n", "arrival_s is 'soon', which is no number"),
        (f"{HEADER}\ninf,2,3\n", "finite"),
        (f"{HEADER}\n1e300,2,3\n", "at most"),
        (f"{HEADER}\n1,{'9' * 30},3\n", "tokens must"),
        (f"{HEADER}\n1,2,{'9' * 200_000}\n", "line 2: "),
        (f"{HEADER}\n1,2\n", "2 values for 3 columns"),
        (f"{HEADER}\n1,2,3,4\n", "4 values for 3 columns"),
        (f"{HEADER},arrival_s\n1,2,3,4\n", "arrival_s twice"),
        (f"{HEADER},service_s\n1,2,3,nan\n", "service_s must be finite"),
        (f"{HEADER},service_s\n1,2,3,x\n", "service_s is 'x'"),
    ],
)
def test_a_bad_trace_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse_trace("bad", text.splitlines())


def test_spaces_and_foreign_line_ends_do_no_harm_and_what_is_unsorted_is_sorted(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(b"\xef\xbb\xbf arrival_s, input_tokens, output_tokens, service_s\r\n9, 1, 2, 3\r\n4, 5, 6,\r\n")
    [found] = read_trace(path).endpoints
    assert list(found.arrivals) == [4.0, 9.0]
    assert (list(found.input_tokens), list(found.output_tokens), list(found.services)) == ([5, 1], [6, 2], [None, 3.0])


def test_ten_million_requests_fit_into_memory() -> None:
    def lines() -> Iterator[str]:
        yield HEADER
        for index in range(100_000):
            yield f"{index / 10},100,10"

    tracemalloc.start()
    [found] = parse_trace("many", lines()).endpoints
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.arrivals) == 100_000
    assert peak / 100_000 < 100, "bytes for each: a gigabyte for ten million"


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


def test_what_requests_really_took_counts_instead_of_their_tokens() -> None:
    text = "arrival_s,input_tokens,output_tokens,service_s\n0,8000,50,3\n1,0,0,\n2,0,0,5\n"
    [requests] = parse_trace("measured", text.splitlines()).endpoints
    assert PROFILES["A"].services(requests) == [3.0, 4.0, 5.0], "who was not served would have taken the mean"
    with pytest.raises(Invalid, match="not negative"):
        parse_trace("bad", "arrival_s,input_tokens,output_tokens,service_s\n0,1,1,-3\n".splitlines())

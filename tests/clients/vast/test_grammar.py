"""What offers are asked for: read here as Vast.ai's own package, unmodified, reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.vast.running import CLIENT, Client
from stoker.dialects.vast import search

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

GAPS = st.sampled_from(["", " "])
SIGNS = st.tuples(GAPS, st.sampled_from([">=", "<=", ">", "<", "=", "==", "!="]), GAPS).map("".join)
WORDS = st.sampled_from([f" {word} " for word in ("eq", "neq", "noteq", "not eq", "gt", "gte", "lt", "lte")])
NAMES = st.sampled_from(["RTX_4090", "H100", '"RTX 4090"', '"A_100"', "true", "False", "null", "US", "5", "0.25", "-1"])
LISTS = st.lists(st.sampled_from(["RTX_4090", "H100", '"L40S"', "CN"]), min_size=1, max_size=3).map(
    lambda names: f"[{','.join(names)}]"
)
PLAIN = st.sampled_from(["gpu_name", "geolocation", "num_gpus", "dph", "cuda_vers", "verified", "reliability"])
SIZES = st.sampled_from(["gpu_ram", "cpu_ram", "gpu_total_ram", "duration"])
NUMBERS = st.one_of(st.integers(1, 200), st.sampled_from([0.5, 12.25])).map(str)
TERMS = st.one_of(
    st.tuples(PLAIN, SIGNS | WORDS, NAMES),
    st.tuples(SIZES, SIGNS | WORDS, NUMBERS),
    st.tuples(PLAIN, st.sampled_from([" in ", " nin ", " notin ", " not in "]), LISTS),
    st.tuples(PLAIN, st.just("="), st.sampled_from(["any", "?", "*"])),
).map("".join)


def plain(value: Any) -> Any:
    """The package leaves numbers as they were written."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, bool) or value is None:
        return value
    try:
        return float(value)
    except ValueError:
        return value


def test_queries_are_read_as_the_package_reads_them(client_python: Callable[[str], Path], tmp_path: Path) -> None:
    client = Client(client_python(CLIENT), tmp_path, "http://127.0.0.1:9", "none")

    @settings(max_examples=100, deadline=None, database=None)
    @given(terms=st.lists(TERMS, max_size=4))
    def play(terms: list[str]) -> None:
        text = " ".join(terms)
        theirs = {field: ops for field, ops in client("grammar", "", text).items() if ops}
        ours = search.parsed(text)
        assert {f: {op: plain(v) for op, v in ops.items()} for f, ops in ours.items()} == {
            f: {op: plain(v) for op, v in ops.items()} for f, ops in theirs.items()
        }

    try:
        play()
    finally:
        client.close()

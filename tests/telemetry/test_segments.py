"""Facts on disk: what is written comes back in the order of arrival, whatever the crash; bytes and ages are bounded."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stoker.domain.endpoint import EndpointId
from stoker.domain.usage import RequestFact
from stoker.telemetry import segments as module
from stoker.telemetry.segments import BLOCK_AGE_S, BLOCK_FACTS_MAX, BUFFERED_MAX, SEGMENT_BYTES, Segments

E = EndpointId("e")
FACTS = st.builds(
    RequestFact,
    at=st.floats(0, 2e9),
    wait_s=st.floats(0, 1e6),
    service_s=st.none() | st.floats(0, 1e6),
    first_byte_s=st.none() | st.floats(0, 1e6),
    prompt_tokens=st.none() | st.integers(0, 10**9),
    completion_tokens=st.none() | st.integers(0, 10**9),
    status=st.integers(100, 599),
    key=st.none() | st.text(max_size=40),
)


def fact(at: float, key: str | None = None) -> RequestFact:
    return RequestFact(at, 0.0, 1.0, 0.5, 10, 20, 200, key)


def store(folder: Path, *, bytes_max: int = 10**9, total: int = 10**9, kept_s: float = 1e9) -> Segments:
    return Segments(folder, bytes_max=bytes_max, total_bytes_max=total, kept_s=kept_s)


def put(into: Segments, *facts: RequestFact, endpoint: EndpointId = E) -> None:
    into.append(endpoint, facts, now=0.0)
    into.write(into.due(now=0.0, everything=True))


def files(folder: Path, endpoint: EndpointId = E) -> list[Path]:
    return sorted((folder / endpoint).glob("*.seg"), key=lambda path: int(path.stem.partition("-")[2]))


# Each example writes files: shrinking one would take minutes.
@settings(max_examples=50, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.lists(st.lists(FACTS, max_size=30), max_size=6), st.floats(0, 2e9), st.floats(0, 2e9))
def test_what_was_written_comes_back_in_the_order_of_arrival(
    batches: list[list[RequestFact]], since: float, until: float
) -> None:
    with tempfile.TemporaryDirectory() as name:
        into = store(Path(name))
        for batch in batches:
            put(into, *batch)
        everything = [fact for batch in batches for fact in batch]
        # Facts of one moment come in any order.
        for found, wanted in (
            (list(into.read(E)), everything),
            (list(into.read(E, since=since, until=until)), [fact for fact in everything if since <= fact.at < until]),
        ):
            assert [fact.at for fact in found] == sorted(fact.at for fact in wanted)
            assert sorted(map(repr, found)) == sorted(map(repr, wanted))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_that_was_torn_anywhere_gives_all_its_whole_blocks_and_the_next_writer_goes_on(
    data: st.DataObject,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, ends = Path(name), [0]
        into = store(folder)
        for index in range(4):
            put(into, fact(float(index)))
            ends.append(files(folder)[0].stat().st_size)
        cut = data.draw(st.integers(0, ends[-1]))
        os.truncate(files(folder)[0], cut)
        whole = sum(1 for end in ends[1:] if end <= cut)
        assert [found.at for found in into.read(E)] == [float(index) for index in range(whole)]
        after = store(folder)
        put(after, fact(99.0))
        assert [found.at for found in after.read(E)] == [*(float(index) for index in range(whole)), 99.0]


def test_a_damaged_block_is_left_out_and_the_others_are_read(tmp_path: Path) -> None:
    into = store(tmp_path)
    ends = []
    for index in range(3):
        put(into, fact(float(index)))
        ends.append(files(tmp_path)[0].stat().st_size)
    with files(tmp_path)[0].open("r+b") as file:
        file.seek(ends[1] - 1)
        file.write(b"\x00")
    assert [found.at for found in into.read(E)] == [0.0, 2.0]


def test_only_full_or_old_blocks_are_due(tmp_path: Path) -> None:
    into = store(tmp_path)
    into.append(E, [fact(1.0)], now=100.0)
    assert into.due(now=100.0 + BLOCK_AGE_S - 0.1) == {}
    assert list(into.due(now=100.0 + BLOCK_AGE_S)) == [E]
    into.append(E, [fact(1.0)] * BLOCK_FACTS_MAX, now=200.0)
    assert list(into.due(now=200.0)) == [E]
    assert into.due(now=900.0) == {}


def test_a_disk_that_does_not_keep_up_costs_facts_and_no_memory(tmp_path: Path) -> None:
    into = store(tmp_path)
    into.append(E, [fact(1.0)] * (BUFFERED_MAX + 5), now=0.0)
    assert into.dropped == 5
    assert len(into.due(now=0.0, everything=True)[E]) == BUFFERED_MAX
    into.append(E, [fact(1.0)], now=0.0)
    assert into.dropped == 5, "there is room again"


def test_files_are_of_one_size_and_the_oldest_go_first(tmp_path: Path) -> None:
    into = store(tmp_path, bytes_max=int(2.5 * SEGMENT_BYTES))
    at = 0
    while len(files(tmp_path)) < 4:
        put(into, *(fact(float(at + index), key=os.urandom(64).hex()) for index in range(BLOCK_FACTS_MAX)))
        at += BLOCK_FACTS_MAX
        for age, path in enumerate(reversed(files(tmp_path))):
            os.utime(path, (1e9 - age, 1e9 - age))
    before = files(tmp_path)
    assert all(path.stat().st_size <= SEGMENT_BYTES for path in before)
    left = into.trim(now=1e9, known=frozenset({E}))
    assert left <= 2.5 * SEGMENT_BYTES
    assert files(tmp_path) == before[-len(files(tmp_path)) :]
    assert left == sum(path.stat().st_size for path in files(tmp_path))


def test_what_is_too_old_or_of_a_deleted_endpoint_goes(tmp_path: Path) -> None:
    into, other = store(tmp_path, kept_s=100), EndpointId("deleted")
    put(into, fact(1.0))
    put(into, fact(1.0), endpoint=other)
    os.utime(files(tmp_path)[0], (1_000.0, 1_000.0))
    assert into.trim(now=1_050.0, known=frozenset({E})) > 0
    assert into.endpoints() == (E,)
    assert into.trim(now=1_200.0, known=frozenset({E})) == 0
    assert list(into.read(E)) == []


def test_all_endpoints_together_are_bounded_too(tmp_path: Path) -> None:
    into = store(tmp_path, total=0)
    for name in "abc":
        put(into, fact(1.0), endpoint=EndpointId(name))
    assert into.trim(now=0.0, known=frozenset(map(EndpointId, "abc"))) == 0


def test_a_reader_holds_only_blocks_that_overlap_in_time(tmp_path: Path) -> None:
    into = store(tmp_path)
    for start in range(0, 1_000, 100):
        put(into, *(fact(float(start + index)) for index in range(100)))
    reading = module.read(tmp_path / E)
    assert next(reading).at == 0.0
    for path in files(tmp_path):
        path.unlink()
    assert len(list(reading)) < 200, "the later blocks had not been read yet"


def test_nothing_is_read_where_nothing_was_written(tmp_path: Path) -> None:
    assert list(store(tmp_path).read(E)) == []
    assert store(tmp_path / "none").endpoints() == ()

"""A worker as it is heard of: when it is to be replaced."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker.queue.hearing import Line

SETS = st.frozensets(st.sampled_from("abcd"))


def ill(line: Line, now: float, slots: int = 1) -> str | None:
    return line.ill(slots=slots, ready_at=0.0, lease_s=9.0, now=now)


def test_one_that_is_silent_is_ill_after_its_lease() -> None:
    line = Line(seen_at=10.0)
    assert ill(line, 18.9) is None
    assert ill(line, 19.0) == "it has not pinged for 9 s"
    assert line.ill(slots=1, ready_at=15.0, lease_s=9.0, now=19.0) is None, "it has only just become ready"


@given(st.lists(st.tuples(SETS, SETS), max_size=12), st.integers(1, 3))
def test_one_is_ill_when_it_has_named_as_many_jobs_as_it_has_slots_for_a_lease_without_having_them(
    said: list[tuple[frozenset[str], frozenset[str]]], slots: int
) -> None:
    line, at = Line(seen_at=0.0), 0.0
    for step, (ids, own) in enumerate(said):
        at = 3.0 * step
        line.seen_at = at
        line.named(ids, own, at)
    # Three pings in a lease: those held are in each of the last four.
    last = said[-4:]
    held = frozenset.intersection(*(ids - own for ids, own in last)) if len(last) == 4 else frozenset()
    assert (ill(line, at, slots) is not None) == (len(held) >= slots)

"""When endpoints are to be looked at though nothing happens to them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker.control.agenda import Agenda
from stoker.domain.endpoint import EndpointId

A, B = EndpointId("a"), EndpointId("b")


def test_each_is_due_once_the_earliest_first() -> None:
    agenda = Agenda()
    agenda.put(A, 5.0)
    agenda.put(B, 3.0)
    assert agenda.due(2.0) == []
    assert agenda.due(5.0) == [B, A]
    assert agenda.due(9.0) == []


def test_what_was_said_last_holds() -> None:
    agenda = Agenda()
    agenda.put(A, 5.0)
    agenda.put(A, 8.0)
    assert agenda.due(7.0) == []
    assert agenda.at(A) == 8.0
    agenda.put(A, 6.0)
    assert agenda.due(7.0) == [A]
    agenda.put(A, 8.0)
    agenda.drop(A)
    assert agenda.due(9.0) == []


said = st.tuples(st.sampled_from("abc"), st.integers(0, 30) | st.none())


@given(st.lists(said | st.integers(1, 5), max_size=60))
def test_it_tells_what_a_plain_dictionary_would_and_keeps_no_more_than_it_must(steps: list[object]) -> None:
    agenda, known, now = Agenda(), dict[EndpointId, float](), 0.0
    for step in steps:
        if isinstance(step, int):
            now += step
            due = {each for each, at in known.items() if at <= now}
            assert set(agenda.due(now)) == due
            known = {each: at for each, at in known.items() if each not in due}
            continue
        assert isinstance(step, tuple)
        endpoint, after = EndpointId(step[0]), step[1]
        if after is None:
            agenda.drop(endpoint)
            known.pop(endpoint, None)
        else:
            agenda.put(endpoint, now + after)
            known[endpoint] = now + after
    assert set(agenda.due(1_000.0)) == set(known)

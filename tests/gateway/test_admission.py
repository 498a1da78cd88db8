"""Who goes, who waits, who is refused: all in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.loopback import endpoint
from stoker.gateway.admission import REST_S, Admission, Refusal, Turn, Worker
from stoker.link.messages import EndpointEntry, WorkerEntry


def entry_of(id: str, *, slots: int = 1, order: int = 0, draining: bool = False) -> WorkerEntry:
    """A worker's row."""
    return WorkerEntry(id, "127.0.0.1", 1, slots, order, draining)


class Someone:
    """An applicant that remembers what it was told."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told

    def admitted(self, worker: Worker) -> None:
        """Note it."""
        self.told.append(f"{self.name}:{worker.id}")

    def refused(self, refusal: Refusal) -> None:
        """Note it."""
        self.told.append(f"{self.name}:{refusal.reason}")


class Room:
    """An admission and what it says to those who wait."""

    def __init__(self, entry: EndpointEntry) -> None:
        self.told: list[str] = []
        self.wakes = 0
        self.touches = 0
        self.it = Admission(entry, 0.0, on_touched=self._touched, on_wait=self._waits)

    def _touched(self, admission: Admission) -> None:
        self.touches += 1

    def _waits(self, admission: Admission) -> None:
        self.wakes += 1

    def turn(self, name: str = "x", *, hold_s: float | None = None, pin: str | None = None) -> Turn:
        """A request that has not entered yet."""
        return Turn(Someone(name, self.told), hold_s=hold_s, pin=pin)

    def enter(
        self, name: str = "x", now: float = 0.0, *, hold_s: float | None = None, pin: str | None = None
    ) -> tuple[Turn, str]:
        """A request enters; what came of it."""
        turn = self.turn(name, hold_s=hold_s, pin=pin)
        outcome = self.it.enter(turn, now)
        if outcome is None:
            return turn, "waits"
        return turn, outcome.id if isinstance(outcome, Worker) else outcome.reason


def test_the_least_loaded_worker_is_chosen_and_the_oldest_among_equals() -> None:
    room = Room(endpoint(entry_of("young", slots=2, order=2), entry_of("old", slots=2, order=1)))
    assert [room.enter()[1] for _ in range(5)] == ["old", "young", "old", "young", "waits"]


def test_slots_are_a_hard_limit_and_a_freed_one_goes_to_the_oldest_waiter() -> None:
    room = Room(endpoint(entry_of("w")))
    first, _ = room.enter("a")
    assert room.enter("b", 1.0)[1] == room.enter("c", 2.0)[1] == "waits"
    room.it.release(first, 3.0, failed=False)
    assert room.told == ["b:w"]
    assert room.it.in_flight == 1


def test_a_slot_is_released_once() -> None:
    room = Room(endpoint(entry_of("w", slots=2)))
    turn, _ = room.enter()
    room.enter()
    room.it.release(turn, 1.0, failed=False)
    room.it.release(turn, 2.0, failed=True)
    report = room.it.report(3.0)
    assert (report.in_flight, report.completions, report.errors, report.workers) == (1, 1, 0, {"w": 1})


def test_a_worker_that_cut_a_request_gets_nothing_for_a_moment() -> None:
    room = Room(endpoint(entry_of("w", slots=2)))
    cut, _ = room.enter("a")
    room.enter("b")
    assert room.enter("c")[1] == "waits"
    room.it.rest(cut, 1.0)
    room.it.release(cut, 1.0, failed=True)
    assert room.told == [], "it may be dying: its other sockets are perhaps not closed yet"
    room.it.rested(1.0 + REST_S)
    assert room.told == ["c:w"]


def test_the_room_is_bounded_in_number() -> None:
    room = Room(endpoint(waiting_max=2))
    assert [room.enter()[1] for _ in range(3)] == ["waits", "waits", "waiting_room_full"]


def test_the_wait_is_bounded_by_the_endpoint_and_by_the_client() -> None:
    room = Room(endpoint(wait_s_max=10.0))
    room.enter("a")
    room.enter("b", hold_s=3.0)
    room.enter("c", hold_s=1000.0)
    room.it.expire(3.0)
    assert room.told == ["b:wait_expired"]
    room.it.expire(9.99)
    assert room.told == ["b:wait_expired"]
    room.it.expire(10.0)
    assert room.told[1:] == ["a:wait_expired", "c:wait_expired"]
    assert room.it.waiting == 0


def test_who_does_not_want_to_wait_gets_a_slot_now_or_is_refused() -> None:
    room = Room(endpoint(entry_of("w")))
    assert [room.enter(hold_s=0)[1] for _ in range(2)] == ["w", "busy"]


@pytest.mark.parametrize("how", ["draining", "gone"])
def test_a_worker_that_leaves_gets_nothing_new_but_is_told_of_until_it_is_idle(how: str) -> None:
    room = Room(endpoint(entry_of("w", slots=2)))
    turn, _ = room.enter()
    workers = (entry_of("w", slots=2, draining=True),) if how == "draining" else ()
    room.it.update(endpoint(*workers), 1.0)
    assert room.enter("b", 1.0)[1] == "waits"
    assert room.it.report(1.0).workers == {"w": 1}
    room.it.release(turn, 2.0, failed=False)
    assert room.told == []
    assert room.it.report(2.0).workers == ({"w": 0} if how == "draining" else {})


def test_a_worker_that_appears_takes_those_who_wait_in_order() -> None:
    room = Room(endpoint())
    for name in "abc":
        room.enter(name)
    room.it.update(endpoint(entry_of("w", slots=2)), 1.0)
    assert room.told == ["a:w", "b:w"]


def test_a_refusal_of_the_endpoint_reaches_those_who_wait_at_once() -> None:
    room = Room(endpoint())
    room.enter("a")
    room.it.update(endpoint(refusal="start_failed", refusal_text="no"), 1.0)
    assert room.told == ["a:start_failed"]
    assert room.enter("b")[1] == "start_failed"
    assert room.it.report(2.0).refusals == 2


def test_a_deleted_endpoint_lets_nobody_wait() -> None:
    room = Room(endpoint())
    room.enter("a")
    room.it.close(1.0)
    assert room.told == ["a:endpoint_gone"]


def test_a_request_whose_worker_refused_it_keeps_its_place_at_the_head() -> None:
    room = Room(endpoint(entry_of("w"), waiting_max=1))
    first, _ = room.enter("first", 0.0)
    room.enter("second", 1.0)
    assert first.worker is not None
    assert room.it.mark_down(first.worker)
    assert not room.it.mark_down(first.worker)
    assert room.it.retry(first, 2.0) is None
    assert room.it.waiting == 2
    room.it.update(endpoint(entry_of("w"), entry_of("v", order=1)), 3.0)
    assert room.told == ["first:w", "second:v"]


def test_a_worker_that_is_down_is_skipped_until_the_table_mentions_it() -> None:
    room = Room(endpoint(entry_of("w"), entry_of("v", order=1)))
    turn, _ = room.enter()
    assert turn.worker is not None
    room.it.mark_down(turn.worker)
    again = room.it.retry(turn, 1.0)
    assert isinstance(again, Worker)
    assert again.id == "v"
    assert room.enter("b")[1] == "waits"
    room.it.update(room.it.entry, 2.0)
    assert room.told == ["b:w"]


def test_a_pinned_request_waits_for_its_worker_and_holds_up_nobody() -> None:
    room = Room(endpoint(entry_of("a"), entry_of("b", order=1)))
    on_a, _ = room.enter()
    assert room.enter("pinned", pin="a")[1] == "waits"
    on_b, where = room.enter("free")
    assert where == "b"
    room.enter("later")
    room.it.release(on_b, 1.0, failed=False)
    assert room.told == ["later:b"]
    room.it.release(on_a, 2.0, failed=False)
    assert room.told == ["later:b", "pinned:a"]


def test_who_leaves_while_waiting_frees_its_place() -> None:
    room = Room(endpoint(waiting_max=1))
    turn, _ = room.enter("a")
    room.it.leave(turn, 1.0)
    room.it.leave(turn, 1.0)
    assert room.enter("b")[1] == "waits"
    room.it.update(endpoint(entry_of("w")), 2.0)
    assert room.told == ["b:w"]


def test_a_wake_is_asked_for_once_between_two_reports() -> None:
    room = Room(endpoint())
    room.enter()
    room.enter()
    assert room.wakes == 1
    room.it.report(1.0)
    room.enter()
    assert room.wakes == 2


def test_reports_are_integrals_and_ages() -> None:
    room = Room(endpoint(entry_of("w")))
    turn, _ = room.enter("a", 0.0)
    room.enter("b", 1.0)
    report = room.it.report(4.0)
    assert (report.busy_s, report.wait_s, report.oldest_wait_s) == (4.0, 3.0, 3.0)
    room.it.release(turn, 5.0, failed=True)
    report = room.it.report(6.0)
    assert (report.busy_s, report.wait_s, report.oldest_wait_s) == (6.0, 4.0, 0.0)
    assert (report.arrivals, report.completions, report.errors, report.waiting) == (2, 0, 1, 0)


Step = tuple[str, int]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["enter", "pin", "leave", "release", "retry", "down", "expire", "table"]), st.integers(0, 9)
        ),
        max_size=60,
    )
)
def test_slots_and_places_always_add_up(steps: list[Step]) -> None:
    room = Room(endpoint(entry_of("a", slots=2), entry_of("b", order=1), waiting_max=5, wait_s_max=7.0))
    turns: list[Turn] = []
    now = 0.0

    def holding() -> list[Turn]:
        return [turn for turn in turns if turn.worker is not None]

    def waiting() -> list[Turn]:
        return [turn for turn in turns if turn.waiting]

    def pick(of: list[Turn], number: int, act: Callable[[Turn], object]) -> None:
        if of:
            act(of[number % len(of)])

    def leave(turn: Turn) -> None:
        room.it.leave(turn, now)

    def release(turn: Turn) -> None:
        room.it.release(turn, now, failed=False)

    def retry(turn: Turn) -> None:
        room.it.retry(turn, now)

    def down(turn: Turn) -> None:
        assert turn.worker is not None
        room.it.mark_down(turn.worker)
        room.it.retry(turn, now)

    for kind, number in steps:
        now += number / 4
        if kind in ("enter", "pin"):
            turns.append(room.enter(pin="ab"[number % 2] if kind == "pin" else None, now=now)[0])
        elif kind == "leave":
            pick(waiting(), number, leave)
        elif kind == "release":
            pick(holding(), number, release)
        elif kind == "retry":
            pick(holding(), number, retry)
        elif kind == "down":
            pick(holding(), number, down)
        elif kind == "expire":
            room.it.expire(now)
        else:
            rows = [entry_of("a", slots=2), entry_of("b", order=1, draining=number % 2 == 0), entry_of("c", order=2)]
            room.it.update(endpoint(*rows[: 1 + number % 3], waiting_max=5, wait_s_max=7.0), now)
        report = room.it.report(now)
        assert report.in_flight == len(holding()) == sum(report.workers.values())
        assert report.waiting == len(waiting())
        assert not [turn for turn in turns if turn.waiting and turn.worker is not None]
        for worker in room.it.workers:
            load = sum(1 for turn in holding() if turn.worker is worker)
            assert load == worker.in_flight <= worker.slots
            if worker.open and load < worker.slots:
                assert not [turn for turn in waiting() if turn.pin in (None, worker.id)]

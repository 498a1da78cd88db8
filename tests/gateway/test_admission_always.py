"""What holds of an endpoint's room whatever happens to it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.loopback import endpoint
from gateway.rooms import Room, entry_of
from stoker.gateway.admission import Turn

Step = tuple[str, int]


ROWS = (entry_of("a", slots=2), entry_of("b", order=1), entry_of("c", slots=3, order=2))


KINDS = ("enter", "pin", "session", "task", "leave", "release", "retry", "down", "rest", "expire", "table")


class Play:
    """Anything that may happen to an endpoint's room, step by step."""

    def __init__(self, session: str, balance: str) -> None:
        self.changes: dict[str, Any] = {
            "waiting_max": 5,
            "wait_s_max": 7.0,
            "session": session,
            balance or "pack": bool(balance),
        }
        self.room = Room(endpoint(*ROWS[:2], **self.changes))
        self.turns: list[Turn] = []
        self.now = 0.0

    def holding(self) -> list[Turn]:
        return [turn for turn in self.turns if turn.worker is not None]

    def waiting(self) -> list[Turn]:
        return [turn for turn in self.turns if turn.waiting]

    def do(self, kind: str, number: int) -> None:
        acts = {
            "leave": (self.waiting, self._leave),
            "release": (self.holding, self._release),
            "rest": (self.holding, self._cut),
            "retry": (self.holding, self._retry),
            "down": (self.holding, self._down),
        }
        if kind in acts:
            among, act = acts[kind]
            if found := among():
                act(found[number % len(found)])
        elif kind == "expire":
            self.room.it.expire(self.now)
        elif kind == "table":
            rows = [entry_of("a", slots=1 + number % 2), entry_of("b", order=1, draining=number % 2 == 0), ROWS[2]]
            self.room.it.update(endpoint(*rows[: number % 4], **self.changes), self.now)
        else:
            self._arrive(kind, number)

    def _arrive(self, kind: str, number: int) -> None:
        if kind == "task":
            self.turns.append(self.room.enter("task", self.now, hold_s=0, task=True)[0])
            assert not self.turns[-1].waiting, "a task never waits"
            return
        pin = "abc"[number % 3] if kind == "pin" else None
        session = b"%d" % number if kind == "session" else None
        self.turns.append(self.room.enter(str(number), self.now, pin=pin, session=session)[0])

    def _leave(self, turn: Turn) -> None:
        self.room.it.leave(turn, self.now)

    def _retry(self, turn: Turn) -> None:
        self.room.it.retry(turn, self.now)

    def _release(self, turn: Turn) -> None:
        # Twice: the second time must change nothing.
        for failed in (False, True):
            self.room.it.release(turn, self.now, failed=failed)

    def _cut(self, turn: Turn) -> None:
        self.room.it.rest(turn, self.now)
        self.room.it.release(turn, self.now, failed=True)

    def _down(self, turn: Turn) -> None:
        assert turn.worker is not None
        self.room.it.mark_down(turn.worker)
        self._retry(turn)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 9)), max_size=60),
    st.sampled_from(["", "soft", "strict"]),
    st.sampled_from(["pack", "fill", ""]),
)
def test_slots_and_places_always_add_up(steps: list[Step], session: str, balance: str) -> None:
    play = Play(session, balance)
    for kind, number in steps:
        play.now += number / (40 if number % 2 else 4)
        if kind not in ("enter", "task"):
            # The timer of a rest. Arrivals must notice by themselves that one is over.
            play.room.it.rested(play.now)
        before = [turn.number for turn in play.waiting() if turn.pin is None]
        play.do(kind, number)
        _check(play.room, play.turns, before, play.now)
    for turn in play.turns:
        play.room.it.leave(turn, play.now)
        play.room.it.release(turn, play.now, failed=False)
    report = play.room.it.report(play.now)
    assert (report.in_flight, report.waiting) == (0, 0)
    assert report.completions + report.errors <= report.arrivals


def _check(room: Room, turns: list[Turn], before: list[int], now: float) -> None:
    holding = [turn for turn in turns if turn.worker is not None]
    waiting = [turn for turn in turns if turn.waiting]
    report = room.it.report(now)
    assert report.in_flight == len(holding) == sum(report.workers.values())
    assert report.waiting == len(waiting)
    assert not [turn for turn in waiting if turn.worker is not None]
    left = [number for number in before if number not in {turn.number for turn in waiting if turn.pin is None}]
    seated = [turn.number for turn in holding if turn.number in left]
    still = [turn.number for turn in waiting if turn.pin is None and turn.number in before]
    assert not seated or not still or max(seated) < min(still), "first come, first served"
    for worker in room.it.workers:
        load = sum(1 for turn in holding if turn.worker is worker)
        assert load == worker.in_flight
        if worker.open and load < worker.slots and worker.rests_until <= room.it._at:
            assert not [turn for turn in waiting if turn.pin in (None, worker.id)], "a slot is free and somebody waits"

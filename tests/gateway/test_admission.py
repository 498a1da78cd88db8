"""Who goes, who waits, who is refused: all in virtual time."""

from __future__ import annotations

import pytest

from gateway.loopback import endpoint
from gateway.rooms import Room, entry_of
from stoker.gateway.admission import REST_S, Worker
from stoker.link.messages import ReservationEntry


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
    assert room.told == ["first:v", "second:w"]


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


def test_equals_take_turns_unless_told_to_pack() -> None:
    rows = (entry_of("old", slots=2, order=1), entry_of("young", slots=2, order=2))
    for pack, expected in ((False, ["old", "young", "old"]), (True, ["old", "old", "old"])):
        room = Room(endpoint(*rows, pack=pack))
        seen = []
        for _ in range(3):
            turn, worker = room.enter()
            seen.append(worker)
            room.it.release(turn, 1.0, failed=False)
        assert seen == expected


def test_the_oldest_is_filled_first_where_that_is_wanted_but_for_what_is_reserved() -> None:
    rows = (entry_of("old", slots=2, order=1), entry_of("mid", slots=2, order=2), entry_of("young", slots=2, order=3))
    room = Room(endpoint(*rows, fill=True))
    room.it.reserve(ReservationEntry("t", "id-chat", "mid", 10.0, cost=1.0))
    entered = [room.enter() for _ in range(4)]
    assert [worker for _, worker in entered] == ["old", "old", "mid", "young"]
    room.it.release(entered[1][0], 1.0, failed=False)
    room.it.unreserve("t")
    assert [room.enter()[1] for _ in range(2)] == ["old", "mid"]


def test_a_bigger_worker_takes_more() -> None:
    room = Room(endpoint(entry_of("big", slots=4, order=1), entry_of("small", slots=2, order=2), pack=True))
    assert sorted(room.enter()[1] for _ in range(6)) == ["big"] * 4 + ["small"] * 2


def test_who_will_not_wait_at_zero_is_refused_and_still_wakes_the_endpoint() -> None:
    room = Room(endpoint())
    assert room.enter(hold_s=0)[1] == "no_capacity"
    assert room.wakes == 1
    full = Room(endpoint(entry_of("w")))
    full.enter()
    assert full.enter(hold_s=0)[1] == "busy"
    assert full.wakes == 0


def test_a_task_gets_a_slot_now_or_is_told_that_there_is_none() -> None:
    room = Room(endpoint(entry_of("w", slots=2)))
    cut, _ = room.enter()
    assert room.enter(hold_s=0, task=True)[1] == "w"
    assert room.enter(hold_s=0, task=True)[1] == "busy"
    assert room.enter("waits")[1] == "waits"
    room.it.rest(cut, 1.0)
    room.it.release(cut, 1.0, failed=True)
    assert room.enter("task", 1.0 + REST_S, hold_s=0, task=True)[1] == "busy"
    assert room.told == ["waits:w"], "the rest was over, and whoever waits goes before a task"
    report = room.it.report(2.0)
    assert (report.arrivals, report.refusals) == (3, 0), "what a task did not get is no request that was refused"


def test_slots_that_come_free_are_told_of_where_tasks_wait_for_them() -> None:
    room = Room(endpoint(entry_of("w", slots=2), backlog=True))
    assert room.freed == 2
    turns = [room.enter()[0] for _ in range(3)]
    room.freed = 0
    room.it.release(turns[0], 1.0, failed=False)
    assert room.freed == 0, "it went to the one that waited"
    room.it.release(turns[1], 1.0, failed=False)
    assert room.freed == 1


@pytest.mark.parametrize("session", ["soft", "strict"])
def test_requests_of_a_session_go_to_one_worker(session: str) -> None:
    rows = (entry_of("a", slots=2, order=1), entry_of("b", slots=2, order=2))
    room = Room(endpoint(*rows, session=session))
    first, where = room.enter("s1", session=b"s")
    room.it.release(first, 1.0, failed=False)
    assert [room.enter("s2", 2.0, session=b"s")[1] for _ in range(2)] == [where, where]
    other = "b" if where == "a" else "a"
    assert room.enter("s3", 3.0, session=b"s")[1] == (other if session == "soft" else "waits")


def test_a_strict_session_says_once_that_its_worker_is_gone() -> None:
    room = Room(endpoint(entry_of("a"), session="strict"))
    turn, _ = room.enter(session=b"s")
    room.enter("waits", session=b"s")
    room.it.update(endpoint(entry_of("b"), session="strict"), 1.0)
    assert room.told == ["waits:session_lost"]
    room.it.release(turn, 2.0, failed=False)
    assert room.enter(now=3.0, session=b"s")[1] == "b"
    room.it.update(endpoint(entry_of("c"), session="strict"), 4.0)
    assert [room.enter(now=5.0, session=b"s")[1] for _ in range(2)] == ["session_lost", "c"]


def test_requests_of_a_new_strict_session_that_waited_together_stay_together() -> None:
    room = Room(endpoint(session="strict"))
    for name in "ab":
        room.enter(name, session=b"s")
    room.it.update(endpoint(entry_of("v"), entry_of("w"), session="strict"), 1.0)
    assert room.told == ["a:v"]


def test_a_client_that_remembers_its_worker_finds_it_again() -> None:
    room = Room(endpoint(entry_of("a", order=1), entry_of("b", order=2), session="strict"))
    assert room.enter(session=b"s", hint="b")[1] == "b"


def test_sessions_mean_nothing_where_the_endpoint_says_nothing_of_them() -> None:
    room = Room(endpoint(entry_of("a", slots=1), entry_of("b", order=1)))
    assert {room.enter(session=b"s")[1] for _ in range(2)} == {"a", "b"}


@pytest.mark.parametrize("how", ["draining", "gone"])
def test_a_pinned_request_does_not_wait_for_a_worker_that_leaves(how: str) -> None:
    room = Room(endpoint(entry_of("a")))
    assert room.enter(pin="nobody")[1] == "worker_unavailable"
    room.enter()
    room.enter("waits", pin="a")
    room.it.update(endpoint(*([entry_of("a", draining=True)] if how == "draining" else [])), 1.0)
    assert room.told == ["waits:worker_unavailable"]


def test_what_is_reserved_counts_as_load_until_it_is_used() -> None:
    room = Room(endpoint(entry_of("a", slots=4, order=1), entry_of("b", slots=4, order=2), pack=True))
    room.it.reserve(ReservationEntry("t", "id-chat", "a", 10.0, cost=2.0))
    assert [room.enter()[1] for _ in range(3)] == ["b", "b", "a"]
    room.it.unreserve("t")
    assert room.enter()[1] == "a"


def test_a_gateway_that_leaves_gives_up_what_it_does_not_need() -> None:
    room = Room(endpoint(entry_of("a", slots=4), entry_of("b", slots=1, order=1)))
    turns = [room.enter(pin="a")[0] for _ in range(2)]
    assert room.it.report(1.0).kept == {}
    room.it.leave_to_successor()
    assert room.it.report(1.0).kept == {"a": 2}
    room.it.release(turns[0], 2.0, failed=False)
    assert room.it.report(3.0).kept == {"a": 1}
    room.it.update(endpoint(entry_of("a", slots=4), entry_of("b", slots=1)), 4.0)
    assert room.enter("late", 5.0, hold_s=0)[1] == "busy", "the successor has those slots now"

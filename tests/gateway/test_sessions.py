"""Sessions: remembered, idle ones forgotten, never more than the bound."""

from __future__ import annotations

from stoker.gateway.sessions import SESSIONS_MAX, Sessions


def test_a_session_is_remembered_until_it_was_idle_for_long() -> None:
    sessions = Sessions()
    sessions.note(b"s", "w", 1.0)
    assert sessions.worker_of(b"s", 11.0, idle_s=10.0) == "w"
    assert sessions.worker_of(b"s", 11.1, idle_s=10.0) is None
    assert len(sessions) == 0


def test_the_session_used_least_recently_is_forgotten_first() -> None:
    sessions = Sessions()
    for number in range(SESSIONS_MAX):
        sessions.note(b"%d" % number, "w", 0.0)
    sessions.note(b"0", "v", 1.0)
    sessions.note(b"new", "w", 1.0)
    assert len(sessions) == SESSIONS_MAX
    assert sessions.worker_of(b"1", 1.0, idle_s=10.0) is None
    assert sessions.worker_of(b"0", 1.0, idle_s=10.0) == "v"


def test_a_session_can_be_begun_anew() -> None:
    sessions = Sessions()
    sessions.note(b"s", "w", 0.0)
    sessions.forget(b"s")
    sessions.forget(b"s")
    assert sessions.worker_of(b"s", 0.0, idle_s=10.0) is None

"""`auto` as a whole: what it wants, within bounds, and what it says of it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stoker.policy.auto.decision import Auto, Sample
from stoker.policy.auto.estimates import Setting, Wanted
from stoker.policy.auto.experience import Experience

steps = st.lists(
    st.tuples(st.floats(0.1, 120.0), st.integers(0, 30), st.floats(0.0, 1.0)),
    max_size=60,
)


def fresh(*, slots: int = 4, workers_max: int = 64, late_cost_s: float = 300.0, cold_cost: float = 0.0) -> Auto:
    setting = Setting(slots=slots, workers_max=workers_max, late_cost_s=late_cost_s, cold_cost=cold_cost)
    return Auto(setting, now=0.0)


def course(auto: Auto, moves: list[tuple[float, int, float]], *, slots: int) -> list[tuple[Sample, Wanted]]:
    """Time passes, requests come, a share of those there ends; the workers wanted are ready at once."""
    now, arrived, ended, workers = 0.0, 0, 0, 0
    found = []
    for seconds, more, share in moves:
        now += seconds
        arrived += more
        ended += round(share * min(arrived - ended, workers * slots))
        in_flight = min(arrived - ended, workers * slots)
        sample = Sample(
            now=now,
            arrived=arrived,
            ended=ended,
            in_flight=in_flight,
            waiting=arrived - ended - in_flight,
            ready=workers,
            active=workers,
            loading_since=None,
            start_s=30.0,
        )
        wanted = auto.decide(sample)
        workers = wanted.workers
        found.append((sample, wanted))
    return found


@given(moves=steps, slots=st.integers(1, 16), workers_max=st.integers(1, 70))
def test_there_are_never_too_many_and_somebody_for_whoever_is_there(
    moves: list[tuple[float, int, float]], slots: int, workers_max: int
) -> None:
    for sample, wanted in course(fresh(slots=slots, workers_max=workers_max), moves, slots=slots):
        assert 0 <= wanted.workers <= workers_max
        assert wanted.workers >= 1 or not (sample.in_flight or sample.waiting)
        assert wanted.workers == wanted.needs + wanted.ahead + wanted.backlog + wanted.kept + wanted.expected
        assert min(wanted.needs, wanted.ahead, wanted.backlog, wanted.kept, wanted.expected) >= 0
        said = "a request that is there" if wanted.needs and wanted.demand < 0.05 else "a demand of "
        assert wanted.reason.startswith(f"{wanted.needs} for {said}")
        assert not wanted.needs or "demand of 0.0" not in wanted.reason


@given(moves=steps)
def test_the_same_course_leads_to_the_same_decisions(moves: list[tuple[float, int, float]]) -> None:
    first = course(fresh(), moves, slots=4)
    assert course(fresh(), moves, slots=4) == first


def test_an_endpoint_that_nobody_asks_goes_to_zero() -> None:
    moves = [(1.0, 1, 1.0)] * 5 + [(60.0, 0, 1.0)] * 600
    assert course(fresh(), moves, slots=4)[-1][1].workers == 0


def test_dearer_lateness_keeps_workers_for_longer() -> None:
    moves = [(1.0, 4, 0.5), (300.0, 0, 1.0), (300.0, 0, 1.0)] * 20
    idle = [sum(w.workers for _, w in course(fresh(late_cost_s=cost), moves, slots=4)) for cost in (1.0, 1_000.0)]
    assert idle[0] < idle[1]


def now_and_then(auto: Auto, times: int, *, resume_s: float | None, since: int = 0) -> Wanted:
    """A request every twenty seconds that takes two; what is wanted in between of the one worker."""
    for index in range(since, since + times):
        at = 20.0 * index
        auto.look(replace(seen(at, index + 1, present=1), ready=1, busy=1, active=1, resume_s=resume_s))
        wanted = auto.decide(replace(seen(at + 2.0, index + 1), ready=1, active=1, resume_s=resume_s))
        ready = wanted.workers
        idle = replace(seen(at + 10.0, index + 1), ready=ready, active=ready, cold=1 - ready, resume_s=resume_s)
        wanted = auto.decide(idle)
    return wanted


def test_what_rests_must_be_back_in_time() -> None:
    for resume_s in (None, 1.0, 5.0):
        wanted = now_and_then(fresh(cold_cost=0.05), 30, resume_s=resume_s)
        assert (wanted.workers, wanted.held > 0) == (0, True), resume_s
    wanted = now_and_then(fresh(cold_cost=0.05), 30, resume_s=12.0)
    assert wanted.held >= wanted.workers == wanted.ahead == 1
    assert "1 for those who would wait too long for a cold one" in wanted.reason


def test_what_was_learned_of_late_cold_workers_outlasts_a_restart_and_a_time_in_which_they_were_not() -> None:
    auto = fresh(cold_cost=0.05)
    now_and_then(auto, 30, resume_s=12.0)
    known = auto.known(620.0)
    assert known.warm is not None
    assert known.warm.gaps
    assert msgspec.json.decode(msgspec.json.encode(known), type=Experience) == known
    again = Auto(auto.setting, now=620.0, known=known)
    assert again.known(620.0).warm == known.warm
    assert now_and_then(again, 2, resume_s=1.0, since=31).workers == 0
    assert again.known(700.0).warm == known.warm
    assert now_and_then(again, 2, resume_s=12.0, since=33).workers == 1


def by_the_clock(auto: Auto, hours: int, *, since: float = 0.0) -> Sample:
    """Sixteen requests at every full hour, which take ten seconds; what is seen afterwards."""
    sample = seen(since, 16 * round(since / 3_600.0))
    for hour in range(round(since / 3_600.0) + 1, round(since / 3_600.0) + hours + 1):
        for second, present in ((0.0, 16), (10.0, 0), (60.0, 0), (600.0, 0)):
            sample = seen(3_600.0 * hour + second, 16 * hour, present=present)
            auto.look(sample)
    return sample


def seen(now: float, arrived: int, *, present: int = 0) -> Sample:
    return Sample(
        now=now,
        arrived=arrived,
        ended=arrived - present,
        in_flight=present,
        waiting=0,
        ready=0,
        active=0,
        loading_since=None,
        start_s=30.0,
    )


def test_what_comes_by_the_clock_has_workers_before_it_and_not_long_after() -> None:
    auto = fresh()
    last = by_the_clock(auto, 8)
    assert auto.decide(last).workers == 0
    assert auto.holds_s(last.now) > 2_000.0
    due = last.now + auto.holds_s(last.now)
    wanted = auto.decide(seen(due, last.arrived))
    assert wanted.workers == wanted.expected >= 2
    assert "by when it came before" in wanted.reason
    assert 3_600.0 - 75.0 < (due % 3_600.0) < 3_600.0 - 30.0
    # Nobody has come.
    assert auto.decide(seen(9 * 3_600.0 + 120.0, last.arrived)).workers == 0


def test_a_restart_does_not_forget_the_clock() -> None:
    auto = fresh()
    last = by_the_clock(auto, 8)
    again = Auto(auto.setting, now=last.now, known=auto.known(last.now))
    assert again.decide(last).workers == 0
    assert again.holds_s(last.now) == auto.holds_s(last.now) or again.holds_s(last.now) > 2_000.0
    due = last.now + again.holds_s(last.now)
    assert again.decide(seen(due, last.arrived)).expected >= 2

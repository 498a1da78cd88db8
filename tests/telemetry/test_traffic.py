"""Traffic by endpoint: averages of a window, silence, restarts, wakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.endpoint import EndpointId
from stoker.link.messages import EndpointReport, MeasureEntry, Report
from stoker.policy.signals import Reading, Signals
from stoker.telemetry.traffic import COUNTS_MAX, KNOWN_S_MIN, STALE_S, TrafficMeter

E = EndpointId("e")
OTHER = EndpointId("other")


def entry(
    in_flight: int = 0,
    waiting: int = 0,
    *,
    arrivals: int = 0,
    completions: int = 0,
    busy_s: float = 0.0,
    oldest_wait_s: float = 0.0,
    name: str = E,
) -> EndpointReport:
    return EndpointReport(
        id=name,
        in_flight=in_flight,
        waiting=waiting,
        oldest_wait_s=oldest_wait_s,
        arrivals=arrivals,
        completions=completions,
        errors=0,
        refusals=0,
        busy_s=busy_s,
        wait_s=0.0,
        workers={"w": in_flight},
    )


class Meter:
    """A meter with a gateway, one window for all, and short ways to say things."""

    def __init__(self, window_s: float = 10.0) -> None:
        self.meter = TrafficMeter()
        self.meter.connected()
        self.window_s = window_s

    def report(
        self, now: float, *entries: EndpointReport, seq: int = 1, measures: tuple[MeasureEntry, ...] = ()
    ) -> None:
        windows = {E: self.window_s, OTHER: self.window_s}
        self.meter.update(Report(seq, now, entries, measures=measures), now=now, windows=windows)

    def signals(self, now: float) -> Signals | None:
        return self.meter.signals(E, now=now, windows=(self.window_s,))


def test_rates_are_averages_over_the_window() -> None:
    meter = Meter(window_s=10)
    for second in range(31):
        meter.report(float(second), entry(in_flight=2, arrivals=3 * second, busy_s=2.0 * second))
    signals = meter.signals(30.0)
    assert signals is not None
    assert signals.arrivals[10].value == 3.0
    assert signals.presence[10].value == 2.0


def test_a_burst_within_a_quiet_window_is_spread_over_it_and_then_forgotten() -> None:
    meter = Meter(window_s=10)
    meter.report(0.0, entry())
    meter.report(50.0, entry(arrivals=20))
    at_once = meter.signals(50.0)
    meter.report(53.0)
    later = meter.signals(53.0)
    for second in range(54, 70):
        meter.report(float(second))
    after = meter.signals(69.0)
    assert at_once is not None
    assert later is not None
    assert after is not None
    assert [s.arrivals[10].value for s in (at_once, later, after)] == [2.0, 2.0, 0.0]


def test_a_rate_is_unknown_until_there_was_time_to_count_and_then_not_diluted() -> None:
    meter = Meter(window_s=60)
    meter.report(0.0, entry())
    first = meter.signals(0.5)
    meter.report(2.0, entry(arrivals=8))
    soon = meter.signals(2.0)
    assert first is not None
    assert soon is not None
    assert (first.arrivals, soon.arrivals[60].value) == ({}, 4.0)


def test_what_requests_are_like_is_learned_from_those_that_end_and_ages_afterwards() -> None:
    meter = Meter()
    meter.report(0.0, entry())
    tokens = MeasureEntry(E, (), 0.0, (), 0.0, 1_000, 200)
    meter.report(5.0, entry(arrivals=4, completions=4, busy_s=8.0), measures=(tokens,))
    meter.report(7.0, entry(arrivals=4, completions=4, busy_s=8.0))
    signals = meter.signals(9.0)
    assert signals is not None
    assert signals.service_s == Reading(2.0, 2.0)
    assert signals.prompt_tokens == Reading(250.0, 2.0)
    assert signals.completion_tokens == Reading(50.0, 2.0)


def test_the_oldest_has_waited_longer_than_when_it_was_reported() -> None:
    meter = Meter()
    meter.report(0.0, entry(waiting=1, oldest_wait_s=1.5))
    meter.report(2.0)
    signals = meter.signals(2.5)
    assert signals is not None
    assert (signals.oldest_wait_s, signals.age_s) == (4.0, 0.5)


@given(st.lists(st.tuples(st.floats(0.01, 5.0), st.integers(0, 30)), min_size=1, max_size=200))
def test_whatever_comes_counts_are_few_and_rates_are_right_over_the_time_since_the_first(
    steps: list[tuple[float, int]],
) -> None:
    meter, now, arrivals = Meter(window_s=2_000), 0.0, 0
    meter.report(now, entry())
    for pause_s, more in steps:
        now, arrivals = now + pause_s, arrivals + more
        meter.report(now, entry(arrivals=arrivals))
    signals = meter.signals(now)
    assert signals is not None
    assert len(meter.meter._traffic[E].counts) <= COUNTS_MAX + 2
    if now >= KNOWN_S_MIN:
        assert signals.arrivals[2_000].value == pytest.approx(arrivals / now)


def test_silence_is_no_signal() -> None:
    meter = Meter()
    assert meter.signals(0.0) is None, "nothing was said yet"
    meter.report(0.0, entry())
    assert meter.signals(STALE_S) is not None
    assert meter.signals(STALE_S + 0.1) is None
    meter.report(10.0)
    assert meter.signals(10.0) is not None, "the gateway lives, and has nothing new to say of it"
    assert meter.meter.signals(OTHER, now=10.0) is None, "never mentioned"


def test_a_gateway_that_is_lost_takes_everything_that_it_said_with_it() -> None:
    meter = Meter()
    meter.report(0.0, entry(in_flight=3), seq=7)
    assert meter.meter.reported_at_seq(E) == 7
    meter.meter.lost()
    assert meter.signals(0.0) is None
    assert meter.meter.reported_at_seq(E) == -1
    assert meter.meter.gateway_uptime_s is None
    meter.meter.connected()
    assert meter.signals(0.1) is None
    meter.meter.wake(OTHER, 1, now=0.2)
    meter.report(0.3, entry(name=OTHER))
    assert meter.signals(0.3) is None, "the new gateway has not mentioned this one yet"
    assert meter.meter.reported_at_seq(E) == -1
    meter.report(0.4, entry(in_flight=1), seq=9)
    signals = meter.signals(0.4)
    assert signals is not None
    assert (signals.in_flight, meter.meter.reported_at_seq(E)) == (1, 9)


def test_a_gateway_that_starts_anew_does_not_look_like_a_long_idle_time() -> None:
    meter = Meter()
    meter.report(0.0, entry(arrivals=100))
    meter.meter.lost()
    meter.meter.connected()
    meter.report(500.0, entry(arrivals=0))
    signals = meter.signals(500.0)
    assert signals is not None
    assert signals.busy_at == 500.0


def test_a_request_between_two_reports_is_seen_by_its_arrival() -> None:
    meter = Meter()
    meter.report(0.0, entry(arrivals=5))
    meter.report(50.0, entry(arrivals=5))
    meter.report(60.0, entry(arrivals=6))
    meter.report(70.0, entry(arrivals=6))
    signals = meter.signals(70.0)
    assert signals is not None
    assert (signals.busy_at, signals.in_flight) == (60.0, 0)


def test_requests_that_end_were_there_until_then() -> None:
    meter = Meter()
    meter.report(0.0, entry(in_flight=1, arrivals=1))
    meter.report(100.0, entry(in_flight=0, arrivals=1))
    signals = meter.signals(101.0)
    assert signals is not None
    assert signals.busy_at == 100.0


def test_a_wake_says_at_once_what_the_next_report_will_say() -> None:
    meter = Meter()
    meter.meter.wake(E, 1, now=5.0)
    signals = meter.signals(5.0)
    assert signals is not None
    assert (signals.waiting, signals.in_flight, signals.busy_at) == (1, 0, 5.0)
    assert meter.meter.reported_at_seq(E) == -1, "it is no report"
    meter.report(6.0, entry(in_flight=2))
    meter.meter.wake(E, 3, now=6.1)
    meter.meter.wake(E, 1, now=6.2)
    signals = meter.signals(6.2)
    assert signals is not None
    assert (signals.in_flight, signals.waiting) == (2, 3)


def test_a_wake_after_the_loss_of_a_gateway_counts_nothing_of_the_old_one() -> None:
    meter = Meter()
    meter.report(0.0, entry(in_flight=9))
    meter.meter.lost()
    meter.meter.connected()
    meter.meter.wake(E, 1, now=1.0)
    signals = meter.signals(1.0)
    assert signals is not None
    assert (signals.in_flight, signals.waiting) == (0, 1)


def test_what_is_deleted_is_forgotten_and_stays_so() -> None:
    meter = Meter()
    meter.report(0.0, entry(in_flight=1))
    assert meter.meter.loads(E) == {"w": 1}
    meter.meter.forget(E)
    meter.meter.update(Report(1, 1.0, (entry(in_flight=1),)), now=1.0, windows={})
    assert (meter.signals(1.0), meter.meter.latest(E), meter.meter.loads(E)) == (None, None, {})


def test_tasks_that_no_gateway_carries_keep_busy() -> None:
    meter = Meter()
    meter.meter.asked_for(E, 3, now=0.0)
    assert meter.signals(0.0) is None, "nothing is known without a gateway"
    meter.report(0.0, entry(in_flight=0))
    meter.meter.asked_for(E, 3, now=10.0)
    meter.report(29.9, entry(in_flight=0))
    meter.meter.asked_for(E, 0, now=30.0)
    meter.report(31.0, entry(in_flight=0))
    signals = meter.signals(31.0)
    assert signals is not None
    assert (signals.in_flight, signals.busy_at) == (0, 30.0)


def test_sums_of_requests_go_on_over_gateways_and_those_that_woke_count_once() -> None:
    made = Meter()

    def counted(now: float) -> tuple[int, int]:
        signals = made.signals(now)
        assert signals is not None
        return signals.arrived, signals.ended

    made.report(0.0, entry(arrivals=100, completions=90))
    assert counted(0.0) == (100, 90)
    made.report(1.0, entry(arrivals=103, completions=95))
    assert counted(1.0) == (103, 95)
    made.meter.lost()
    made.meter.connected()
    made.report(2.0, entry(arrivals=2, completions=1))
    assert counted(2.0) == (105, 96)
    made.meter.lost()
    made.meter.connected()
    made.meter.wake(E, 3, now=3.0)
    made.report(3.1, entry(waiting=3, arrivals=3))
    assert counted(3.1) == (108, 96)


def test_a_first_request_after_a_long_time_has_not_waited_since_the_last_report() -> None:
    made = Meter(window_s=60.0)
    made.report(0.0, entry())
    made.report(3_600.0)
    made.meter.wake(E, 1, now=3_600.5)
    signals = made.signals(3_600.75)
    assert signals is not None
    assert signals.oldest_wait_s == pytest.approx(0.25)
    assert signals.presence[60.0].value == pytest.approx(0.25 / 60)
    # What the wake said is in the next report, and counts once.
    made.report(3_601.5, entry(in_flight=1, arrivals=1, busy_s=1.0))
    signals = made.signals(3_602.5)
    assert signals is not None
    assert signals.presence[60.0].value == pytest.approx(2.0 / 60)


def test_averages_go_on_when_one_gateway_takes_over_from_another() -> None:
    made = Meter(window_s=10.0)
    for second in range(21):
        made.report(float(second), entry(4, arrivals=2 * second, completions=2 * second, busy_s=4.0 * second))
    made.meter.handed_over("old")
    assert made.signals(20.1) is None, "nobody has spoken who knows what comes"
    left = entry(4, arrivals=41, completions=40, busy_s=80.4)
    made.meter.leaving("old", Report(1, 20.1, (left,)), now=20.1)
    made.meter.connected()
    made.meter.wake(E, 1, now=20.4)
    made.report(20.5, entry(1, arrivals=1, busy_s=0.1))
    for tick in range(1, 9):
        now = 20.5 + tick / 2
        made.meter.leaving(
            "old", Report(1, now, (entry(3, arrivals=41, completions=41, busy_s=82.0 + 1.5 * tick),)), now=now
        )
        made.report(now, entry(1, arrivals=1 + tick, completions=tick, busy_s=0.1 + tick / 2))
        signals = made.signals(now)
        assert signals is not None
        assert signals.presence[10.0].value == pytest.approx(4.0, abs=0.45)
        assert signals.arrivals[10.0].value == pytest.approx(2.0, abs=0.25)
    assert signals is not None
    assert (signals.in_flight, signals.arrived, signals.ended) == (4, 41 + 9, 41 + 8)
    made.meter.left("old")
    made.report(25.0, entry(1, arrivals=10, completions=9, busy_s=4.6))
    signals = made.signals(25.0)
    assert signals is not None
    assert signals.in_flight == 1
    assert 3.5 < signals.presence[10.0].value < 4.1


def test_of_those_at_a_gateway_on_its_way_out_the_oldest_wait_is_known() -> None:
    made = Meter()
    made.report(0.0, entry())
    made.meter.handed_over("old")
    made.meter.leaving("old", Report(1, 1.0, (entry(waiting=2, oldest_wait_s=3.0, arrivals=2),)), now=1.0)
    made.meter.connected()
    made.report(2.0, entry())
    signals = made.signals(2.0)
    assert signals is not None
    assert (signals.waiting, signals.oldest_wait_s) == (2, 4.0)

"""Traffic by endpoint: peaks of a window, silence, restarts, wakes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.endpoint import EndpointId
from stoker.link.messages import EndpointReport, Report
from stoker.policy.scaling import Signals
from stoker.telemetry.traffic import PEAK_STEP_S, STALE_S, TrafficMeter

E = EndpointId("e")
OTHER = EndpointId("other")


def entry(in_flight: int = 0, waiting: int = 0, *, arrivals: int = 0, name: str = E) -> EndpointReport:
    return EndpointReport(
        id=name,
        in_flight=in_flight,
        waiting=waiting,
        oldest_wait_s=0.0,
        arrivals=arrivals,
        completions=0,
        errors=0,
        refusals=0,
        busy_s=0.0,
        wait_s=0.0,
        workers={"w": in_flight},
    )


class Meter:
    """A meter with a gateway, one window for all, and short ways to say things."""

    def __init__(self, window_s: float = 10.0) -> None:
        self.meter = TrafficMeter()
        self.meter.connected()
        self.window_s = window_s

    def report(self, now: float, *entries: EndpointReport, seq: int = 1) -> None:
        windows = {E: self.window_s, OTHER: self.window_s}
        self.meter.update(Report(seq, now, entries), now=now, windows=windows)

    def signals(self, now: float) -> Signals | None:
        return self.meter.signals(E, now=now, window_s=self.window_s)

    def peak(self, now: float) -> float | None:
        signals = self.signals(now)
        return None if signals is None else signals.demand_peak


@given(
    st.floats(0.5, 30.0),
    st.lists(st.tuples(st.floats(0.01, STALE_S), st.integers(0, 20)), min_size=1, max_size=120),
    st.floats(0, STALE_S),
)
def test_the_peak_is_the_highest_demand_of_the_window_to_within_one_step(
    window_s: float, steps: list[tuple[float, int]], after_s: float
) -> None:
    meter = Meter(window_s)
    now = 1_000.0
    # What was there, as long as the next report said otherwise: (from, to, how much).
    history: list[tuple[float, float, int]] = []
    demand: int | None = None
    for pause_s, after in steps:
        if demand is not None:
            history.append((now, now + pause_s, demand))
        now, demand = now + pause_s, after
        meter.report(now, entry(in_flight=after))
    end = now + after_s
    assert demand is not None
    history.append((now, end, demand))
    least = max(what for _, until, what in history if until >= end - window_s)
    most = max(what for _, until, what in history if until >= end - window_s - PEAK_STEP_S)
    found = meter.peak(end)
    assert found is not None
    assert least <= found <= most


def test_a_low_demand_that_is_reported_often_does_not_keep_an_old_peak_alive() -> None:
    meter = Meter(window_s=10)
    meter.report(0.0, entry(in_flight=10))
    meter.report(1.5, entry(in_flight=8))
    for quarter in range(8, 100):
        meter.report(quarter / 4, entry(in_flight=1))
    assert meter.peak(25.0) == 1


def test_demand_that_lasted_until_just_now_is_a_peak_though_its_report_is_old() -> None:
    meter = Meter(window_s=10)
    meter.report(0.0, entry(in_flight=5))
    for second in range(1, 60):
        meter.report(float(second))
    meter.report(60.0, entry(in_flight=1))
    assert meter.peak(62.0) == 5
    meter.report(75.0)
    assert meter.peak(75.0) == 1


def test_memory_is_bounded_by_the_window() -> None:
    meter = Meter(window_s=100)
    for step in range(100_000):
        meter.report(step / 100, entry(in_flight=100_000 - step))
    assert len(meter.meter._traffic[E].peaks) <= 100 / PEAK_STEP_S + 2


def test_without_a_window_there_is_nothing_but_now() -> None:
    meter = Meter(window_s=0)
    meter.report(0.0, entry(in_flight=5))
    meter.report(0.1, entry(in_flight=2))
    assert meter.peak(0.1) == 2


def test_silence_is_no_signal() -> None:
    meter = Meter()
    assert meter.signals(0.0) is None, "nothing was said yet"
    meter.report(0.0, entry())
    assert meter.signals(STALE_S) is not None
    assert meter.signals(STALE_S + 0.1) is None
    meter.report(10.0)
    assert meter.signals(10.0) is not None, "the gateway lives, and has nothing new to say of it"
    assert meter.meter.signals(OTHER, now=10.0, window_s=10) is None, "never mentioned"


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
    assert (signals.in_flight, signals.waiting, signals.demand_peak) == (2, 3, 5.0)


def test_a_wake_after_the_loss_of_a_gateway_counts_nothing_of_the_old_one() -> None:
    meter = Meter()
    meter.report(0.0, entry(in_flight=9))
    meter.meter.lost()
    meter.meter.connected()
    meter.meter.wake(E, 1, now=1.0)
    signals = meter.signals(1.0)
    assert signals is not None
    assert (signals.in_flight, signals.waiting) == (0, 1)
    assert signals.demand_peak == 9, "what there was within the window"


def test_what_is_deleted_is_forgotten_and_stays_so() -> None:
    meter = Meter()
    meter.report(0.0, entry(in_flight=1))
    assert meter.meter.loads(E) == {"w": 1}
    meter.meter.forget(E)
    meter.meter.update(Report(1, 1.0, (entry(in_flight=1),)), now=1.0, windows={})
    assert (meter.signals(1.0), meter.meter.latest(E), meter.meter.loads(E)) == (None, None, {})


def test_tasks_that_no_gateway_carries_keep_busy_and_are_remembered_as_demand() -> None:
    meter = Meter(window_s=60)
    meter.meter.asked_for(E, 3, now=0.0, window_s=60)
    assert meter.signals(0.0) is None, "nothing is known without a gateway"
    meter.report(0.0, entry(in_flight=0))
    meter.meter.asked_for(E, 3, now=10.0, window_s=60)
    meter.report(29.9, entry(in_flight=0))
    meter.meter.asked_for(E, 0, now=30.0, window_s=60)
    meter.report(31.0, entry(in_flight=0))
    signals = meter.signals(31.0)
    assert signals is not None
    assert (signals.in_flight, signals.demand_peak, signals.busy_at) == (0, 3, 30.0)

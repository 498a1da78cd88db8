"""What the gateway's reports say of each endpoint, kept as long as decisions need it. Fed by the link, read by control.

A silent gateway leaves signals that age and then vanish: `None` is never zero requests.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.domain.endpoint import EndpointId
from stoker.domain.worker import WorkerId
from stoker.link.messages import EndpointReport, Report
from stoker.policy.scaling import Signals

# The gateway says something at least once a second. Three seconds of silence mean that it is gone or stuck.
STALE_S = 3.0
# Peaks are kept by the second, so that a day of memory costs at most 86,400 numbers for an endpoint that asks for it.
# A peak counts to the end of its second.
PEAK_STEP_S = 1.0


@dataclass(slots=True)
class _Traffic:
    """`valid`: said by the gateway that is there now. `beside` is demand that no gateway carries."""

    report: EndpointReport
    seq: int
    at: float
    busy_at: float
    valid: bool = True
    # (until when it counts, demand), demand falling: the first is the highest of the window.
    peaks: deque[tuple[float, int]] = field(default_factory=deque)
    beside: int = 0

    @property
    def demand(self) -> int:
        return self.report.in_flight + self.report.waiting


class TrafficMeter:
    """Windows per endpoint. All times are the caller's, in seconds."""

    def __init__(self) -> None:
        self._traffic: dict[EndpointId, _Traffic] = {}
        self._heard_at: float | None = None
        self._lost = True
        # Requests in flight and waiting at gateways on their way out, by gateway and endpoint.
        self._leaving: dict[str, dict[EndpointId, tuple[int, int]]] = {}
        self.gateway_uptime_s: float | None = None

    def leaving(self, incarnation: str, report: Report) -> None:
        """What a gateway on its way out has still counts as demand."""
        known = self._leaving.setdefault(incarnation, {})
        for entry in report.endpoints:
            known[EndpointId(entry.id)] = (entry.in_flight, entry.waiting)

    def left(self, incarnation: str) -> None:
        """It has gone."""
        self._leaving.pop(incarnation, None)

    def connected(self) -> None:
        """A gateway is there; its first report will carry every endpoint."""
        self._lost = False

    def lost(self) -> None:
        """The gateway is gone: nothing that it said is true any more."""
        self._lost = True
        self._heard_at = None
        self.gateway_uptime_s = None
        for traffic in self._traffic.values():
            traffic.seq = -1
            traffic.valid = False

    def forget(self, endpoint: EndpointId) -> None:
        """The endpoint is deleted."""
        self._traffic.pop(endpoint, None)

    def update(self, report: Report, *, now: float, windows: Mapping[EndpointId, float]) -> None:
        """Take in a report. `windows` says how long each endpoint's peaks are remembered, in seconds; what a report
        says of endpoints without one, which are deleted, is nobody's business any more.
        """
        self._heard_at = now
        self.gateway_uptime_s = report.uptime_s
        for entry in report.endpoints:
            endpoint = EndpointId(entry.id)
            if endpoint not in windows:
                continue
            known = self._traffic.get(endpoint)
            if known is None:
                # Unknown until now: taken as busy just now, so that a restart does not look like a long idle time.
                known = self._traffic[endpoint] = _Traffic(entry, report.seq, now, now)
            # No report in between: until now there was what the one before said.
            held = known.demand if known.valid else 0
            _note_peak(known.peaks, now, held, window_s=windows[endpoint])
            arrived = entry.arrivals != known.report.arrivals
            known.report, known.seq, known.at, known.valid = entry, report.seq, now, True
            if held > 0 or known.demand > 0 or arrived:
                known.busy_at = now
            _note_peak(known.peaks, now, known.demand, window_s=windows[endpoint])

    def wake(self, endpoint: EndpointId, waiting: int, *, now: float) -> None:
        """A request waits, said ahead of the next report."""
        self._heard_at = now
        known = self._traffic.get(endpoint)
        if known is None or not known.valid:
            peaks = deque[tuple[float, int]]() if known is None else known.peaks
            empty = EndpointReport(endpoint, 0, waiting, 0.0, 0, 0, 0, 0, 0.0, 0.0, {})
            self._traffic[endpoint] = _Traffic(empty, -1, now, now, peaks=peaks)
            return
        known.busy_at = now
        if waiting > known.report.waiting:
            values = {f: getattr(known.report, f) for f in known.report.__struct_fields__}
            known.report = EndpointReport(**(values | {"waiting": waiting}))

    def asked_for(self, endpoint: EndpointId, demand: int, *, now: float, window_s: float) -> None:
        """So many tasks wait or run from now on that no gateway carries: what is busy with them is busy."""
        known = self._traffic.get(endpoint)
        if known is None:
            return
        for count in (known.beside, demand):
            _note_peak(known.peaks, now, count, window_s=window_s)
            if count:
                known.busy_at = now
        known.beside = demand

    def signals(self, endpoint: EndpointId, *, now: float, window_s: float) -> Signals | None:
        """What is known of the endpoint's demand; `None` when the gateway is silent or has not mentioned it yet."""
        known = self._traffic.get(endpoint)
        if known is None or self._lost or not known.valid or self._heard_at is None or now - self._heard_at > STALE_S:
            return None
        in_flight, waiting = known.report.in_flight, known.report.waiting
        for leaving in self._leaving.values():
            theirs = leaving.get(endpoint, (0, 0))
            in_flight, waiting = in_flight + theirs[0], waiting + theirs[1]
        _forget_peaks(known.peaks, now, window_s)
        peak = float(max(known.peaks[0][1] if known.peaks else 0, in_flight + waiting))
        return Signals(
            in_flight=in_flight,
            waiting=waiting,
            demand_peak=peak,
            busy_at=now if in_flight + waiting > 0 else known.busy_at,
        )

    def loads(self, endpoint: EndpointId) -> Mapping[WorkerId, int]:
        """Requests in flight by worker, as last reported."""
        known = self._traffic.get(endpoint)
        return {} if known is None else {WorkerId(key): value for key, value in known.report.workers.items()}

    def reported_at_seq(self, endpoint: EndpointId) -> int:
        """The table that the last report of this endpoint was taken under; -1 when there is none of this gateway."""
        known = self._traffic.get(endpoint)
        return -1 if known is None or self._lost else known.seq

    def latest(self, endpoint: EndpointId) -> tuple[EndpointReport, float] | None:
        """The last report of this endpoint and when it came."""
        known = self._traffic.get(endpoint)
        return None if known is None else (known.report, known.at)


def _note_peak(peaks: deque[tuple[float, int]], now: float, demand: int, *, window_s: float) -> None:
    _forget_peaks(peaks, now, window_s)
    while peaks and peaks[-1][1] <= demand:
        peaks.pop()
    step_ends_at = (math.floor(now / PEAK_STEP_S) + 1) * PEAK_STEP_S
    # Within one step the higher value stands for both.
    if window_s > 0 and (not peaks or peaks[-1][0] < step_ends_at):
        peaks.append((step_ends_at, demand))


def _forget_peaks(peaks: deque[tuple[float, int]], now: float, window_s: float) -> None:
    if window_s <= 0:
        peaks.clear()
    while peaks and now - peaks[0][0] > window_s:
        peaks.popleft()

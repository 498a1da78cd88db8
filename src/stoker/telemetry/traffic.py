"""What the gateway's reports say of each endpoint, kept as long as decisions need it. Fed by the link, read by control.

A silent gateway leaves signals that age and then vanish: `None` is never zero requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from stoker.domain.endpoint import EndpointId
from stoker.domain.worker import WorkerId
from stoker.link.messages import EndpointReport, Report
from stoker.policy.signals import Reading, Signals

# The gateway says something at least once a second. Three seconds of silence mean that it is gone or stuck.
STALE_S = 3.0
# Averages are over a minute where nobody asks for another window, and of so many counts each.
WINDOW_S = 60.0
COUNTS_MAX = 60
# Shorter is no time to know a rate of.
KNOWN_S_MIN = 1.0


@dataclass(frozen=True, slots=True)
class _Count:
    """Sums since the gateway's start. `present_s` is the integral of requests in flight or waiting over time."""

    at: float
    arrivals: int
    completions: int
    present_s: float
    busy_s: float
    prompt_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class _Traffic:
    """`valid`: said by the gateway that is there now. `beside` is demand that no gateway carries."""

    report: EndpointReport
    seq: int
    at: float
    busy_at: float
    valid: bool = True
    # Oldest first; one of them is older than the window.
    counts: deque[_Count] = field(default_factory=deque)
    # What a request takes and has, and when that was last seen.
    service_s: tuple[float, float] | None = None
    prompt_tokens: tuple[float, float] | None = None
    completion_tokens: tuple[float, float] | None = None
    beside: int = 0
    # Requests that came and ended, whatever gateway counted them; `counted`: the report has the gateway's sums.
    arrived: int = 0
    ended: int = 0
    counted: bool = True

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
        # Tokens that requests had since the gateway's start: prompts', answers'.
        self._tokens: dict[EndpointId, tuple[int, int]] = {}

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
            traffic.counts.clear()
        self._tokens.clear()

    def forget(self, endpoint: EndpointId) -> None:
        """The endpoint is deleted."""
        self._traffic.pop(endpoint, None)
        self._tokens.pop(endpoint, None)

    def update(self, report: Report, *, now: float, windows: Mapping[EndpointId, float]) -> set[EndpointId]:
        """Take in a report. `windows` says over how long averages of each endpoint go, in seconds; what a report says
        of endpoints without one, which are deleted, is nobody's business any more. Those where somebody came, went or
        began since the report before.
        """
        changed: set[EndpointId] = set()
        self._heard_at = now
        self.gateway_uptime_s = report.uptime_s
        for measure in report.measures:
            if EndpointId(measure.endpoint) in windows:
                self._tokens[EndpointId(measure.endpoint)] = (measure.prompt_tokens, measure.completion_tokens)
        for entry in report.endpoints:
            endpoint = EndpointId(entry.id)
            if endpoint not in windows:
                continue
            known = self._traffic.get(endpoint)
            if known is None:
                # Unknown until now: taken as busy just now, so that a restart does not look like a long idle time.
                known = self._traffic[endpoint] = _Traffic(entry, report.seq, now, now)
                known.arrived, known.ended = entry.arrivals, entry.completions
                changed.add(endpoint)
            elif not known.valid or not known.counted or _traffic_of(known.report) != _traffic_of(entry):
                changed.add(endpoint)
            # No report in between: until now there was what the one before said.
            held = known.demand if known.valid else 0
            arrived = entry.arrivals != known.report.arrivals
            if known.counted:
                known.arrived += _more(known.report.arrivals, entry.arrivals)
                known.ended += _more(known.report.completions, entry.completions)
            known.counted = True
            known.report, known.seq, known.at, known.valid = entry, report.seq, now, True
            if held > 0 or known.demand > 0 or arrived:
                known.busy_at = now
            _count(known, self._tokens.get(endpoint, (0, 0)), now, windows[endpoint])
        return changed

    def wake(self, endpoint: EndpointId, waiting: int, *, now: float) -> None:
        """A request waits, said ahead of the next report."""
        self._heard_at = now
        known = self._traffic.get(endpoint)
        if known is None or not known.valid:
            empty = EndpointReport(endpoint, 0, waiting, 0.0, 0, 0, 0, 0, 0.0, 0.0, {})
            made = self._traffic[endpoint] = _Traffic(empty, -1, now, now, counted=False)
            made.arrived, made.ended = (waiting, 0) if known is None else (known.arrived + waiting, known.ended)
            return
        known.busy_at = now
        if waiting > known.report.waiting:
            values = {f: getattr(known.report, f) for f in known.report.__struct_fields__}
            known.report = EndpointReport(**(values | {"waiting": waiting}))

    def asked_for(self, endpoint: EndpointId, demand: int, *, now: float) -> None:
        """So many tasks wait or run from now on that no gateway carries: what is busy with them is busy."""
        known = self._traffic.get(endpoint)
        if known is None:
            return
        if known.beside or demand:
            known.busy_at = now
        known.beside = demand

    def signals(self, endpoint: EndpointId, *, now: float, windows: Collection[float] = (WINDOW_S,)) -> Signals | None:
        """What is known of the endpoint's demand, averages over these windows among it; `None` when the gateway is
        silent or has not mentioned it yet.
        """
        known = self._traffic.get(endpoint)
        if known is None or self._lost or not known.valid or self._heard_at is None or now - self._heard_at > STALE_S:
            return None
        in_flight, waiting = known.report.in_flight, known.report.waiting
        for leaving in self._leaving.values():
            theirs = leaving.get(endpoint, (0, 0))
            in_flight, waiting = in_flight + theirs[0], waiting + theirs[1]
        # What did not change was not mentioned: it is as old as the gateway's last word, whatever that was of.
        age_s = max(0.0, now - self._heard_at)
        waited_s = known.report.oldest_wait_s + max(0.0, now - known.at) if waiting else 0.0
        found = {window: _averages(known, now, window, age_s) for window in windows}
        return Signals(
            in_flight=in_flight,
            waiting=waiting,
            busy_at=now if in_flight + waiting > 0 else known.busy_at,
            age_s=age_s,
            oldest_wait_s=waited_s,
            arrived=known.arrived,
            ended=known.ended,
            arrivals={window: both[0] for window, both in found.items() if both is not None},
            presence={window: both[1] for window, both in found.items() if both is not None},
            service_s=_aged(known.service_s, now),
            prompt_tokens=_aged(known.prompt_tokens, now),
            completion_tokens=_aged(known.completion_tokens, now),
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


def _traffic_of(report: EndpointReport) -> tuple[object, ...]:
    return report.arrivals, report.completions, report.in_flight, report.waiting, report.workers


def _more(before: int, after: int) -> int:
    """How far a sum of the gateway's has grown. One that has fallen is another gateway's, which began at 0."""
    return after - before if after >= before else after


def _count(known: _Traffic, tokens: tuple[int, int], now: float, window_s: float) -> None:
    """Note the sums, as often as the window needs, and what requests were like since the last note."""
    report, counts = known.report, known.counts
    if counts and now - counts[-1].at < max(1.0, window_s / COUNTS_MAX):
        return
    present_s = report.busy_s + report.wait_s
    count = _Count(now, report.arrivals, report.completions, present_s, report.busy_s, *tokens)
    if counts and report.arrivals < counts[-1].arrivals:
        # It is another gateway that counts.
        counts.clear()
    counts.append(count)
    while len(counts) > 1 and (counts[1].at <= now - window_s or len(counts) > COUNTS_MAX + 2):
        counts.popleft()
    first = counts[0]
    ended = count.completions - first.completions
    if ended > 0:
        known.service_s = ((count.busy_s - first.busy_s) / ended, now)
        if count.completion_tokens > first.completion_tokens:
            known.prompt_tokens = ((count.prompt_tokens - first.prompt_tokens) / ended, now)
            known.completion_tokens = ((count.completion_tokens - first.completion_tokens) / ended, now)


def _averages(known: _Traffic, now: float, window_s: float, age_s: float) -> tuple[Reading, Reading] | None:
    """Arrivals in a second, and requests there on the average. `None`: nothing was counted for long enough."""
    base = None
    for count in known.counts:
        if base is not None and count.at > now - window_s:
            break
        base = count
    if base is None:
        return None
    # Who was not mentioned in between was as it was: a note from before the window stands for its beginning.
    span_s = min(now - base.at, window_s)
    if span_s < min(KNOWN_S_MIN, window_s):
        return None
    report = known.report
    since = report.busy_s + report.wait_s - base.present_s + known.demand * max(0.0, now - known.at)
    return (
        Reading(max(0, report.arrivals - base.arrivals) / span_s, age_s),
        Reading(max(0.0, since) / span_s, age_s),
    )


def _aged(seen: tuple[float, float] | None, now: float) -> Reading | None:
    return None if seen is None else Reading(seen[0], max(0.0, now - seen[1]))

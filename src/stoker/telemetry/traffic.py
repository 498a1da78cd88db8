"""What the gateway's reports say of each endpoint, kept as long as decisions need it. Fed by the link, read by control.

A silent gateway leaves signals that age and then vanish: `None` is never zero requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from stoker.domain.endpoint import EndpointId
from stoker.domain.worker import WorkerId
from stoker.link.messages import EndpointReport, Report
from stoker.policy.signals import Reading, Signals

Sum = TypeVar("Sum", int, float)

# The gateway says something at least once a second. Three seconds of silence mean that it is gone or stuck.
STALE_S = 3.0
# Averages are over a minute where nobody asks for another window, and of so many counts each.
WINDOW_S = 60.0
COUNTS_MAX = 60
# Shorter is no time to know a rate of.
KNOWN_S_MIN = 1.0


@dataclass(frozen=True, slots=True)
class _Count:
    """Sums: `arrived` and `present_s`, the integral of requests in flight or waiting over time, of all gateways, the
    others since the start of the one that is there now, the `era`.
    """

    at: float
    arrived: int
    present_s: float
    era: int
    completions: int
    busy_s: float
    prompt_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class _Traffic:
    """`valid`: said by the gateway that is there now. `beside` is demand that no gateway carries. `since`: from when on
    the demand is what it is, `unsaid_s` what there was of it after the report and before that; `waits_since`: when the
    oldest of those that wait has come.
    """

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
    present_s: float = 0.0
    counted: bool = True
    era: int = 0
    since: float = 0.0
    unsaid_s: float = 0.0
    waits_since: float = 0.0

    @property
    def demand(self) -> int:
        return self.report.in_flight + self.report.waiting

    def presence(self, now: float) -> float:
        """The integral of its demand up to now."""
        return self.present_s + self.unsaid_s + self.demand * max(0.0, now - self.since)

    def take(self, entry: EndpointReport, seq: int, now: float) -> None:
        """This is so from now on."""
        self.present_s += _more(_present_s(self.report), _present_s(entry))
        self.report, self.seq, self.at, self.valid = entry, seq, now, True
        self.since, self.unsaid_s, self.waits_since = now, 0.0, now - entry.oldest_wait_s


class TrafficMeter:
    """Windows per endpoint. All times are the caller's, in seconds."""

    def __init__(self) -> None:
        self._traffic: dict[EndpointId, _Traffic] = {}
        self._heard_at: float | None = None
        self._lost = True
        # What gateways on their way out have last said and when, by gateway and endpoint.
        self._leaving: dict[str, dict[EndpointId, tuple[EndpointReport, float]]] = {}
        self._era = 0
        self.gateway_uptime_s: float | None = None
        # Tokens that requests had since the gateway's start: prompts', answers'.
        self._tokens: dict[EndpointId, tuple[int, int]] = {}

    def handed_over(self, incarnation: str) -> None:
        """The gateway is on its way out. Sums go on with what it still says and with what its successor will."""
        known = self._leaving.setdefault(incarnation, {})
        for endpoint, traffic in self._traffic.items():
            if traffic.valid and traffic.counted:
                known[endpoint] = (traffic.report, traffic.at)
        for traffic in self._traffic.values():
            traffic.report = _nothing(traffic.report.id, workers=traffic.report.workers)
            traffic.unsaid_s = 0.0
        self._gone()

    def leaving(self, incarnation: str, report: Report, *, now: float) -> None:
        """What a gateway on its way out has still counts as demand, and what comes of it in all sums."""
        known = self._leaving.setdefault(incarnation, {})
        for entry in report.endpoints:
            endpoint = EndpointId(entry.id)
            before, _ = known.get(endpoint, (entry, now))
            known[endpoint] = (entry, now)
            traffic = self._traffic.get(endpoint)
            if traffic is not None:
                traffic.arrived += _more(before.arrivals, entry.arrivals)
                traffic.ended += _more(before.completions, entry.completions)
                traffic.present_s += _more(_present_s(before), _present_s(entry))

    def left(self, incarnation: str) -> None:
        """It has gone."""
        self._leaving.pop(incarnation, None)

    def connected(self) -> None:
        """A gateway is there; its first report will carry every endpoint."""
        self._lost = False

    def lost(self) -> None:
        """The gateway is gone: nothing that it said is true any more."""
        for traffic in self._traffic.values():
            traffic.counts.clear()
        self._gone()

    def _gone(self) -> None:
        self._lost = True
        self._era += 1
        self._heard_at = None
        self.gateway_uptime_s = None
        for traffic in self._traffic.values():
            traffic.seq = -1
            traffic.valid = False
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
            known.take(entry, report.seq, now)
            known.era = self._era
            if held > 0 or known.demand > 0 or arrived:
                known.busy_at = now
            _count(known, self._tokens.get(endpoint, (0, 0)), now, windows[endpoint])
        return changed

    def wake(self, endpoint: EndpointId, waiting: int, *, now: float) -> None:
        """A request waits, said ahead of the next report."""
        self._heard_at = now
        known = self._traffic.get(endpoint)
        if known is None or not known.valid:
            empty = _nothing(endpoint, waiting)
            made = _Traffic(empty, -1, now, now, counted=False, era=self._era, since=now, waits_since=now)
            made.arrived, made.ended = (waiting, 0) if known is None else (known.arrived + waiting, known.ended)
            if known is not None:
                made.counts, made.present_s = known.counts, known.present_s
            self._traffic[endpoint] = made
            return
        known.busy_at = now
        if waiting > known.report.waiting:
            known.unsaid_s += known.demand * max(0.0, now - known.since)
            known.since = now
            if not known.report.waiting:
                known.waits_since = now
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
        waits_since = known.waits_since if waiting else now
        leaving_s = 0.0
        for leaving in self._leaving.values():
            if endpoint in leaving:
                theirs, at = leaving[endpoint]
                in_flight, waiting = in_flight + theirs.in_flight, waiting + theirs.waiting
                leaving_s += (theirs.in_flight + theirs.waiting) * max(0.0, now - at)
                if theirs.waiting:
                    waits_since = min(waits_since, at - theirs.oldest_wait_s)
        # What did not change was not mentioned: it is as old as the gateway's last word, whatever that was of.
        age_s = max(0.0, now - self._heard_at)
        waited_s = max(0.0, now - waits_since)
        present_s = known.presence(now) + leaving_s
        found = {window: _averages(known, present_s, now, window, age_s) for window in windows}
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


def _nothing(endpoint: str, waiting: int = 0, *, workers: Mapping[str, int] | None = None) -> EndpointReport:
    return EndpointReport(endpoint, 0, waiting, 0.0, 0, 0, 0, 0, 0.0, 0.0, dict(workers or {}))


def _present_s(report: EndpointReport) -> float:
    return report.busy_s + report.wait_s


def _more(before: Sum, after: Sum) -> Sum:
    """How far a sum of the gateway's has grown. One that has fallen is another gateway's, which began at 0."""
    return after - before if after >= before else after


def _count(known: _Traffic, tokens: tuple[int, int], now: float, window_s: float) -> None:
    """Note the sums, as often as the window needs, and what requests were like since the last note."""
    report, counts = known.report, known.counts
    if counts and now - counts[-1].at < max(1.0, window_s / COUNTS_MAX):
        return
    count = _Count(now, known.arrived, known.present_s, known.era, report.completions, report.busy_s, *tokens)
    counts.append(count)
    while len(counts) > 1 and (counts[1].at <= now - window_s or len(counts) > COUNTS_MAX + 2):
        counts.popleft()
    first = next(each for each in counts if each.era == known.era)
    ended = count.completions - first.completions
    if ended > 0:
        known.service_s = ((count.busy_s - first.busy_s) / ended, now)
        if count.completion_tokens > first.completion_tokens:
            known.prompt_tokens = ((count.prompt_tokens - first.prompt_tokens) / ended, now)
            known.completion_tokens = ((count.completion_tokens - first.completion_tokens) / ended, now)


def _averages(
    known: _Traffic, present_s: float, now: float, window_s: float, age_s: float
) -> tuple[Reading, Reading] | None:
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
    return (
        Reading(max(0, known.arrived - base.arrived) / span_s, age_s),
        Reading(max(0.0, present_s - base.present_s) / span_s, age_s),
    )


def _aged(seen: tuple[float, float] | None, now: float) -> Reading | None:
    return None if seen is None else Reading(seen[0], max(0.0, now - seen[1]))
